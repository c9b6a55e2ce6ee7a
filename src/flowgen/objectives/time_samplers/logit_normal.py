"""Times whose logit is normal: most training in the middle, none at the ends.

``logit t = log(t / (1 - t))`` is minus the log of the noise level ``s = (1 - t) / t`` of the linear
path, so a log-normal level (EDM) is a logit-normal time with the sign of the mean flipped. Stable
Diffusion 3 counts time from data to noise: its mean flips sign as well.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.objectives.time_samplers.protocol import inside, normal_draws


@dataclass(frozen=True)
class LogitNormal:
    """``t = sigmoid(mean + std z)``, ``z`` standard normal.

    Density ``N(logit t; mean, std^2) / (t (1 - t))``.

    Args:
        mean: Of ``logit t``; above 0 leans towards the data.
        std: Of ``logit t``, above 0.

    Raises:
        InputError: If ``mean`` is not finite, or ``std`` not positive and finite.

    Source: Esser et al. 2024, arXiv 2403.03206, eq. 19 ("rf/lognorm"), with ``m = -mean``.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not math.isfinite(self.mean):
            raise InputError(f"mean must be finite, got {self.mean}")
        if not 0 < self.std < math.inf:
            raise InputError(f"std must be positive and finite, got {self.std}")

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times; see :class:`TimeSampler`."""
        z = normal_draws(n, generator, device)
        return inside(torch.sigmoid(self.mean + self.std * z))

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the density at times in (0, 1)."""
        z = (torch.logit(t) - self.mean) / self.std
        return torch.exp(-z.square() / 2) / (math.sqrt(2 * math.pi) * self.std * t * (1 - t))


@dataclass(frozen=True)
class EDMLogNormal:
    """Times at which the noise level of the linear path is EDM's: ``log s ~ N(P_mean, P_std^2)``.

    With ``s = (1 - t) / t`` this is the logit-normal with mean ``-P_mean`` and std ``P_std``.

    Args:
        P_mean: Of the log of the noise level, for data of standard deviation 0.5.
        P_std: Of the log of the noise level, above 0.

    Raises:
        InputError: If ``P_mean`` is not finite, or ``P_std`` not positive and finite.

    Source: Karras et al. 2022, arXiv 2206.00364, table 1.
    """

    P_mean: float = -1.2
    P_std: float = 1.2

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not math.isfinite(self.P_mean):
            raise InputError(f"P_mean must be finite, got {self.P_mean}")
        if not 0 < self.P_std < math.inf:
            raise InputError(f"P_std must be positive and finite, got {self.P_std}")

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times; see :class:`TimeSampler`."""
        return LogitNormal(-self.P_mean, self.P_std)(n, generator=generator, device=device)

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the density at times in (0, 1)."""
        return LogitNormal(-self.P_mean, self.P_std).density(t)
