"""The two other densities of Stable Diffusion 3, both symmetric about the middle.

``Mode`` bends the uniform distribution by ``f(u) = u + scale (cos^2(pi u / 2) - 1 + u)``, monotone
as long as ``f' = 1 + scale (1 - pi/2 sin(pi u))`` stays non-negative. ``CosMap`` gives a linear
path the log signal-to-noise ratios that uniform times have on the trigonometric path.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.objectives.time_samplers.protocol import inside, uniform_draws

_LARGEST = 2 / (math.pi - 2)
_NUM_HALVINGS = 54  # one bit each: to the last bit of float64


@dataclass(frozen=True)
class Mode:
    """``t = f(u)`` with ``f(u) = u + scale (cos^2(pi u / 2) - 1 + u)``; density ``1 / f'``.

    Args:
        scale: In ``[-1, 2 / (pi - 2)]`` = [-1, 1.7519]; above 0 favours the middle, below 0 the
            ends, 0 is uniform. At the two limits the density has an infinite peak.

    Raises:
        InputError: If ``scale`` leaves the range in which ``f`` is monotone.

    Source: Esser et al. 2024, arXiv 2403.03206, eq. 20.
    """

    scale: float = 1.29

    def __post_init__(self) -> None:
        """Check the scale."""
        if not -1 <= self.scale <= _LARGEST:
            raise InputError(
                f"scale must be in [-1, 2 / (pi - 2) = {_LARGEST:.4f}], where the times are "
                f"monotone in u, got {self.scale}"
            )

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times; see :class:`TimeSampler`."""
        return inside(self._bent(uniform_draws(n, generator, device)))

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return ``1 / f'(u)`` at ``u = f^-1(t)``, for times in (0, 1); ``u`` by bisection."""
        target = t.double()
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(_NUM_HALVINGS):
            middle = (low + high) / 2
            below = self._bent(middle) < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        u = (low + high) / 2
        slope = 1 + self.scale * (1 - math.pi / 2 * torch.sin(math.pi * u))
        return (1 / slope).to(t.dtype)

    def _bent(self, u: Tensor) -> Tensor:
        # cos^2 - 1 = -sin^2, without the cancellation near u = 0.
        return u + self.scale * (u - torch.sin(math.pi / 2 * u).square())


@dataclass(frozen=True)
class CosMap:
    """``t = 1 - 1 / (tan(pi u / 2) + 1)``; density ``2 / (pi (1 - 2 t + 2 t^2))``.

    Source: Esser et al. 2024, arXiv 2403.03206, eq. 21.
    """

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times; see :class:`TimeSampler`."""
        angle = math.pi / 2 * uniform_draws(n, generator, device)
        sine, cosine = torch.sin(angle), torch.cos(angle)
        return inside(sine / (sine + cosine))

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the density at times in [0, 1]."""
        return 2 / (math.pi * (1 - 2 * t * (1 - t)))
