"""Ways to combine the velocity without and with the condition into one.

Each is a callable ``(v_null (b, *d), v_cond (b, *d)) -> v (b, *d)``; rows do not see each other.
``Extrapolate`` is affine with weights of sum one, so it means the same for the velocity, the data
and the noise on one path; the other two wrap it or any other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, expand, flatten

Combine = Callable[[Tensor, Tensor], Tensor]
"""``(v_null, v_cond) -> v``."""

_SMALLEST_STD = 1e-6
_SMALLEST_SQUARE = 1e-8


@dataclass(frozen=True)
class Extrapolate:
    """``v_null + scale (v_cond - v_null)``: 1 is off, 0 is unconditional.

    Args:
        scale: At least 0, finite.

    Raises:
        InputError: If ``scale`` leaves its range.

    Source: Ho and Salimans 2022, arXiv 2207.12598, eq. 6, whose ``w`` is ``scale - 1``.
    """

    scale: float

    def __post_init__(self) -> None:
        """Check the scale."""
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise InputError(f"guidance.scale must be finite and at least 0, got {self.scale}")

    def __call__(
        self, v_null: Float[Tensor, "b *d"], v_cond: Float[Tensor, "b *d"]
    ) -> Float[Tensor, "b *d"]:
        """Return the combined velocity."""
        return v_null + self.scale * (v_cond - v_null)


@dataclass(frozen=True)
class Projected:
    """Another combination, of ``s v_null`` in place of ``v_null``, ``s`` fitting it to ``v_cond``.

    ``s = <v_cond, v_null> / |v_null|^2`` for each row, in float32 at least: a null velocity of the
    wrong length, as an undertrained model has, is corrected before it is extrapolated from.

    Args:
        combine: What is done with the two.

    Source: Fan et al. 2025, CFG-Zero*, arXiv 2503.18886, eq. 9.
    """

    combine: Combine

    def __call__(
        self, v_null: Float[Tensor, "b *d"], v_cond: Float[Tensor, "b *d"]
    ) -> Float[Tensor, "b *d"]:
        """Return the combined velocity."""
        null, cond = (
            flatten(v.to(torch.promote_types(v.dtype, torch.float32))) for v in (v_null, v_cond)
        )
        fit = (cond * null).sum(dim=1) / (null.square().sum(dim=1) + _SMALLEST_SQUARE)
        return self.combine(expand(fit, v_null).to(v_null.dtype) * v_null, v_cond)


@dataclass(frozen=True)
class Rescaled:
    """Another combination, pulled back to the spread of ``v_cond``: large scales do not overshoot.

    ``phi v std(v_cond) / std(v) + (1 - phi) v`` with the standard deviation over each row.

    Args:
        combine: What is rescaled.
        phi: In ``[0, 1]``; 0 leaves it as it is.

    Raises:
        InputError: If ``phi`` leaves its range.

    Source: Lin et al. 2023, arXiv 2305.08891, eqs. 15 and 16, on the velocity.
    """

    combine: Combine
    phi: float

    def __post_init__(self) -> None:
        """Check ``phi``."""
        if not 0.0 <= self.phi <= 1.0:
            raise InputError(f"guidance.rescale must be in [0, 1], got {self.phi}")

    def __call__(
        self, v_null: Float[Tensor, "b *d"], v_cond: Float[Tensor, "b *d"]
    ) -> Float[Tensor, "b *d"]:
        """Return the combined velocity."""
        v = self.combine(v_null, v_cond)
        factor = _std(v_cond) / _std(v).clamp(min=_SMALLEST_STD)
        return v * expand(self.phi * factor + (1 - self.phi), v).to(v.dtype)


def _std(v: Float[Tensor, "b *d"]) -> Float[Tensor, " b"]:
    return flatten(v).float().std(dim=1, correction=0)
