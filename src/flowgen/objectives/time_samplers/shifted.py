"""The shift of times with resolution.

An image with more pixels shows its content through more noise. To keep the same uncertainty with
``n`` pixels as with ``m``, noise levels are multiplied by ``shift = sqrt(n / m)``: on the linear
path ``logit t' = logit t - log(shift)``. So shifts multiply, and a shifted logit-normal is one
again, with mean less ``log(shift)``.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.objectives.time_samplers.protocol import TimeSampler, inside


@dataclass(frozen=True)
class Shifted:
    """``t' = t / (shift - (shift - 1) t)`` for ``t`` from another sampler.

    Density ``p(t) shift / (1 + (shift - 1) t')^2`` with ``t = shift t' / (1 + (shift - 1) t')``.

    Args:
        base: Sampler of ``t``.
        shift: Above 0; above 1 leans towards the noise, 1 changes nothing.

    Raises:
        InputError: If ``shift`` is not positive and finite.

    Source: Esser et al. 2024, arXiv 2403.03206, eq. 23 (there time runs from data to noise).
    """

    base: TimeSampler
    shift: float = 3.0

    def __post_init__(self) -> None:
        """Check the shift."""
        if not 0 < self.shift < math.inf:
            raise InputError(f"shift must be positive and finite, got {self.shift}")

    def __call__(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, " n"]:
        """Return ``n`` times; see :class:`TimeSampler`."""
        t = self.base(n, generator=generator, device=device)
        return inside(t / (self.shift * (1 - t) + t))

    def density(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the density at times in (0, 1)."""
        divisor = 1 + (self.shift - 1) * t
        return self.base.density(self.shift * t / divisor) * self.shift / divisor.square()
