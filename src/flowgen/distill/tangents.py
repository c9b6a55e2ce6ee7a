"""The direction in which a flow map is pushed: ``g = (v - u) + r (t - s) D u``.

It vanishes exactly at the mean velocity, ``u = v + (t - s) D u``. ``r`` may rise from 0 while the
derivative of a young network is mostly noise. Where ``g`` has outliers it can be shortened; the
whole of it, which leaves its zeros where they are.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, expand, flatten


@dataclass(frozen=True)
class Ramp:
    """A number that rises from 0 to ``end`` over the first part of a run and stays there.

    Args:
        share: Of the run, in ``[0, 1]``; 0 begins at ``end``.
        end: In ``(0, 1]``; below 1 leaves a share of straightness in the map.

    Raises:
        InputError: If a number leaves its range.
    """

    share: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.share <= 1:
            raise InputError(f"ramp.share must be in [0, 1], got {self.share}")
        if not 0 < self.end <= 1:
            raise InputError(f"ramp.end must be in (0, 1], got {self.end}")

    def __call__(self, progress: float) -> float:
        """Return the number at the share ``progress`` of a run, in ``[0, 1]``."""
        return self.end * (1.0 if progress >= self.share else progress / self.share)


@runtime_checkable
class Tangent(Protocol):
    """Makes the push of what the identity says."""

    def __call__(
        self, mismatch: Tensor, derivative: Tensor, length: Tensor, progress: float
    ) -> Float[Tensor, "b *d"]:
        """Return ``g (b, *d)``.

        Args:
            mismatch: ``v - u``, shape ``(b, *d)``.
            derivative: ``D u``, shape ``(b, *d)``.
            length: ``t - s``, shape ``(b,)``.
            progress: Share of the run that is over, in ``[0, 1]``.
        """
        ...

    def whole(
        self, mismatch: Tensor, derivative: Tensor, length: Tensor, progress: float
    ) -> Float[Tensor, "b *d"]:
        """Return ``g (b, *d)`` before anything of it is shortened, for the log."""
        ...


class Plain:
    """``(v - u) + r (t - s) D u`` as it is.

    Args:
        ramp: The number ``r`` over a run; 1 if None.
    """

    def __init__(self, ramp: Ramp | None = None) -> None:
        self.ramp = Ramp() if ramp is None else ramp

    def __call__(
        self, mismatch: Tensor, derivative: Tensor, length: Tensor, progress: float
    ) -> Float[Tensor, "b *d"]:
        """Return ``g (b, *d)``, see :class:`Tangent`."""
        return self.whole(mismatch, derivative, length, progress)

    def whole(
        self, mismatch: Tensor, derivative: Tensor, length: Tensor, progress: float
    ) -> Float[Tensor, "b *d"]:
        """Return ``(v - u) + r (t - s) D u``, shape ``(b, *d)``."""
        return mismatch + self.ramp(progress) * expand(length, derivative) * derivative


class Normalised(Plain):
    """``g / (|g| + c)`` of the whole push, ``|g|`` over all values of a sample.

    Args:
        c: Above 0; a push much smaller than it is left as it is, but for the factor ``1 / c``.
        ramp: The number ``r`` over a run; 1 if None.

    Raises:
        InputError: If ``c`` is not positive and finite.

    Source: Lu and Song 2024, arXiv 2410.11081, section 4.2; Sabour et al. 2025, arXiv 2506.14603.
    """

    def __init__(self, c: float = 0.1, ramp: Ramp | None = None) -> None:
        super().__init__(ramp)
        self.c = _positive(c)

    def __call__(
        self, mismatch: Tensor, derivative: Tensor, length: Tensor, progress: float
    ) -> Float[Tensor, "b *d"]:
        """Return ``g / (|g| + c)``, see :class:`Tangent`."""
        return shortened(self.whole(mismatch, derivative, length, progress), self.c)


class NormalisedDerivative(Plain):
    """``(v - u) + r (t - s) D u / (|D u| + c)``: biased, as the released code of MDT-dist has it.

    The derivative alone is shortened, so ``g`` vanishes elsewhere than at the mean velocity. It is
    here to reproduce that code; :class:`Normalised` has no such fault.

    Args:
        c: Above 0.
        ramp: The number ``r`` over a run; 1 if None.

    Raises:
        InputError: If ``c`` is not positive and finite.

    Source: the code released with Zhou et al. 2025, arXiv 2509.04406 (not in the paper).
    """

    def __init__(self, c: float = 0.1, ramp: Ramp | None = None) -> None:
        super().__init__(ramp)
        self.c = _positive(c)

    def __call__(
        self, mismatch: Tensor, derivative: Tensor, length: Tensor, progress: float
    ) -> Float[Tensor, "b *d"]:
        """Return the biased ``g``, see :class:`Tangent`."""
        return self.whole(mismatch, shortened(derivative, self.c), length, progress)


def norms(x: Float[Tensor, "b *d"]) -> Float[Tensor, " b"]:
    """Return the Euclidean norm of each row, over all its values."""
    return torch.linalg.vector_norm(flatten(x), dim=1)


def shortened(x: Float[Tensor, "b *d"], c: float) -> Float[Tensor, "b *d"]:
    """Return ``x / (|x| + c)`` of each row."""
    return x / expand(norms(x) + c, x)


def _positive(c: float) -> float:
    if not (math.isfinite(c) and c > 0):
        raise InputError(f"c must be finite and above 0, got {c}")
    return float(c)
