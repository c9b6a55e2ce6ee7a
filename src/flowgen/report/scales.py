"""Axes: where a value stands between 0 and 1, and which values get a label."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis.

    Args:
        low: Value at 0.
        high: Value at 1, larger than ``low``.
        log: Whether equal ratios are equal lengths; then ``low`` is positive.
    """

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: np.ndarray, *, log: bool = False, zero: bool = False) -> "Scale":
        """Return the axis that holds all values with a little room.

        Args:
            values: Finite, at least one; positive where ``log`` is set.
            log: Make it logarithmic.
            zero: Let a linear axis begin at 0 (or end there, where all values are negative).
        """
        low, high = float(values.min()), float(values.max())
        if log:
            room = max((high / low) ** 0.05, 1.05)
            return cls(low / room, high * room, log=True)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        size = high - low or abs(high) or 1.0
        bottom = low if zero and low == 0 else low - 0.05 * size
        return cls(bottom, high + 0.05 * size)

    def place(self, values: np.ndarray) -> np.ndarray:
        """Return where values stand, 0 at ``low`` and 1 at ``high``."""
        if self.log:
            return np.log(values / self.low) / math.log(self.high / self.low)
        return (values - self.low) / (self.high - self.low)

    def at(self, value: float) -> float:
        """Return where one value stands."""
        return float(self.place(np.array([value]))[0])

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values inside the axis, about ``count`` of them."""
        return self._decades(count) if self.log else self._round(count)

    def _round(self, count: int) -> list[float]:
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]

    def _decades(self, count: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
            every = max(1, round((last - first) / (2 * count)))
            powers = range(first, last + 1, every)
            found = [float(f"{f}e{p}") for p in powers for f in factors]
            inside = [value for value in found if self.low <= value <= self.high]
            if len(inside) >= 3:
                return inside[:: max(1, round(len(inside) / (count + 2)))]
        return self._round(count)
