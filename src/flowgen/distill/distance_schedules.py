"""Distances that change over a run, as the differences they measure shrink."""

import math
from typing import Protocol, runtime_checkable

from flowgen.core import InputError
from flowgen.distill.noise_grid import Doubling
from flowgen.objectives import Cauchy, Distance


@runtime_checkable
class DistanceSchedule(Protocol):
    """A distance for every share of a run."""

    def at(self, progress: float) -> Distance:
        """Return the distance at the share ``progress`` of a run, in ``[0, 1]``."""
        ...


class ShrinkingCauchy:
    """The Cauchy distance with ``c = N^-slope e^-offset`` on a grid of ``N`` intervals of noise.

    Ordinary differences of neighbours shrink so with ``N``; with a fixed ``c`` either these or the
    outliers would count for nothing.

    Args:
        count: The number ``N`` over a run, that of the :class:`NoiseGrid`.
        first: ``c`` of the first stage, above 0, per value of a sample.
        slope: Of ``-log c`` over ``log N``, at least 0.
        offset: Of ``-log c``.
        scale: Standard deviation of the data over 0.5, which the numbers are for; above 0.

    Raises:
        InputError: If a number leaves its range.

    Source: the code released with Dao et al. 2025, arXiv 2502.01441; ``first`` is there
        ``0.00054 sqrt(4096)``, for latents of 4x32x32.
    """

    def __init__(
        self,
        count: Doubling,
        *,
        first: float = 0.03456,
        slope: float = 1.15,
        offset: float = 0.85,
        scale: float = 1.0,
    ) -> None:
        for name, value in (("first", first), ("scale", scale)):
            if not 0 < value < math.inf:
                raise InputError(f"{name} must be positive and finite, got {value}")
        if not 0 <= slope < math.inf or not math.isfinite(offset):
            raise InputError(f"slope must be >= 0 and offset finite, got {slope}, {offset}")
        self.count = count
        self.first, self.scale = float(first), float(scale)
        self.slope, self.offset = float(slope), float(offset)

    def at(self, progress: float) -> Distance:
        """Return the Cauchy distance of a stage, see :class:`DistanceSchedule`."""
        n = self.count(progress)
        c = self.first if n == self.count.first else n**-self.slope * math.exp(-self.offset)
        return Cauchy(self.scale * c)
