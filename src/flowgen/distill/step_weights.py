"""How much each triple of the semigroup identity counts."""

import math
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.paths import Path

_LEAST = 1e-6


@runtime_checkable
class StepWeight(Protocol):
    """A factor for each triple ``s <= r <= t``."""

    def __call__(self, path: Path, s: Tensor, r: Tensor, t: Tensor) -> Float[Tensor, " b"]:
        """Return the factors, shape ``(b,)``."""
        ...


class Even:
    """1 for all."""

    def __call__(self, path: Path, s: Tensor, r: Tensor, t: Tensor) -> Float[Tensor, " b"]:
        """Return ones, shape ``(b,)``."""
        del path, r, t
        return s * 0 + 1


class PerStep:
    """``((t - s) / (r - s))^power`` for mean velocities.

    The difference ``u - u*`` is ``(r - s) / (t - s)`` times what is missing to the Eulerian
    identity. With power 1 its gradient, through ``u`` alone, is that of velocity matching, as steps
    shrink; with 2 the loss itself is, and long jumps count more.

    Args:
        power: At least 0.

    Raises:
        InputError: If ``power`` is negative or not finite.
    """

    def __init__(self, power: float = 1.0) -> None:
        if not 0 <= power < math.inf:
            raise InputError(f"power must be >= 0 and finite, got {power}")
        self.power = float(power)

    def __call__(self, path: Path, s: Tensor, r: Tensor, t: Tensor) -> Float[Tensor, " b"]:
        """Return the factors, shape ``(b,)``."""
        del path
        return ((t - s) / (r - s).clamp(min=_LEAST)) ** self.power


class PerNoiseStep:
    """``1 / (l(s) - l(r))`` with the noise level ``l = sigma / alpha``, for differences of ends.

    Args:
        floor: Smallest ``alpha``, above 0; source-like times have an infinite level.

    Source: Song and Dhariwal 2023, arXiv 2310.14189, section 3.3; Geng et al. 2024, arXiv
        2406.14548, section 3.2.
    """

    def __init__(self, floor: float = 1e-3) -> None:
        self.floor = float(floor)

    def __call__(self, path: Path, s: Tensor, r: Tensor, t: Tensor) -> Float[Tensor, " b"]:
        """Return the factors, shape ``(b,)``."""
        del t
        here, there = (path.coefficients(time) for time in (s, r))
        level = here.sigma / here.alpha.clamp(min=self.floor)
        later = there.sigma / there.alpha.clamp(min=self.floor)
        return 1 / (level - later).clamp(min=_LEAST)
