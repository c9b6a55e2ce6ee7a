"""How far a prediction is from its target, per sample: functions of ``m``, the mean of ``d^2``.

``d`` is the difference and the mean runs over all values of a sample, so that a constant ``c``
means the same at every resolution: a root-mean-square difference per value, in units of the data.
Papers that sum over ``n`` values have ``c_sum^2 = n c^2``.

Only ``Squared`` is least at the conditional mean, the true velocity. The others weigh samples
with large differences less; they are for targets that scatter little (reflow, distillation).
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, mean_over_dims


@runtime_checkable
class Distance(Protocol):
    """A measure of a difference, one number per sample."""

    def __call__(self, difference: Float[Tensor, "b *d"]) -> Float[Tensor, " b"]:
        """Return the distance ``(b,)`` of differences ``(b, *d)``, at least in float32."""
        ...


def _mean_square(difference: Tensor) -> Tensor:
    wide = torch.promote_types(difference.dtype, torch.float32)
    return mean_over_dims(difference.to(wide).square())


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"{name} must be positive and finite, got {value}")


@dataclass(frozen=True)
class Squared:
    """``m``: the squared difference, mean over the values of a sample."""

    def __call__(self, difference: Float[Tensor, "b *d"]) -> Float[Tensor, " b"]:
        """Return ``m``, shape ``(b,)``."""
        return _mean_square(difference)


@dataclass(frozen=True)
class PseudoHuber:
    """``sqrt(m + c^2) - c``: ``m / (2 c)`` for small differences, ``sqrt(m)`` for large ones.

    Args:
        c: Where it turns from one to the other, above 0, per value of a sample.

    Raises:
        InputError: If ``c`` is not positive and finite.

    Source: Song and Dhariwal 2023, arXiv 2310.14189, where ``c_sum = 0.00054 sqrt(n)``.
    """

    c: float = 0.00054

    def __post_init__(self) -> None:
        """Check ``c``."""
        _check_positive("c", self.c)

    def __call__(self, difference: Float[Tensor, "b *d"]) -> Float[Tensor, " b"]:
        """Return ``sqrt(m + c^2) - c``, shape ``(b,)``."""
        m = _mean_square(difference)
        return m / ((m + self.c**2).sqrt() + self.c)  # the difference would cancel for small m


@dataclass(frozen=True)
class Cauchy:
    """``log(1 + m / (2 c^2))``: beyond ``m = 2 c^2`` a larger difference pulls less.

    Args:
        c: Scale of an ordinary difference, above 0, per value of a sample.

    Raises:
        InputError: If ``c`` is not positive and finite.

    Source: Dao et al. 2025, arXiv 2502.01441 (also with the mean over values).
    """

    c: float = 1.0

    def __post_init__(self) -> None:
        """Check ``c``."""
        _check_positive("c", self.c)

    def __call__(self, difference: Float[Tensor, "b *d"]) -> Float[Tensor, " b"]:
        """Return ``log(1 + m / (2 c^2))``, shape ``(b,)``."""
        return torch.log1p(_mean_square(difference) / (2 * self.c**2))


@dataclass(frozen=True)
class Adaptive:
    """``m / stopgrad((m + c)^power)``: the squared difference, normalised sample by sample.

    Its gradient is that of ``m`` divided by ``(m + c)^power``; the value itself says little.

    Args:
        power: In [0, 1] in practice, at least 0; 0 is :class:`Squared`, 0.5 resembles
            :class:`PseudoHuber`, 1 makes samples nearly equal.
        c: Keeps the divisor from 0, above 0; a squared difference per value of a sample.

    Raises:
        InputError: If ``power`` is negative or not finite, or ``c`` not positive and finite.

    Source: Geng et al. 2025, arXiv 2505.13447 (with the sum over values).
    """

    power: float = 1.0
    c: float = 1e-3

    def __post_init__(self) -> None:
        """Check both parameters."""
        if not 0 <= self.power < math.inf:
            raise InputError(f"power must be >= 0 and finite, got {self.power}")
        _check_positive("c", self.c)

    def __call__(self, difference: Float[Tensor, "b *d"]) -> Float[Tensor, " b"]:
        """Return ``m / stopgrad((m + c)^power)``, shape ``(b,)``."""
        m = _mean_square(difference)
        return m / (m.detach() + self.c) ** self.power
