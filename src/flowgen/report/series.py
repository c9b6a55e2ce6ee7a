"""Curves over steps, made small enough for a page without losing their peaks."""

from dataclasses import dataclass, field

import numpy as np

MOST_POINTS = 400
"""Most buckets of a drawn curve; each keeps its lowest and its highest value."""


def _empty() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True)
class Series:
    """A logged value over optimiser steps.

    Args:
        name: Column or figure it comes from.
        steps: Ascending, each once, shape ``(n,)``.
        values: Finite, shape ``(n,)``.
        bad: Steps at which the value was NaN or infinite.
    """

    name: str
    steps: np.ndarray
    values: np.ndarray
    bad: np.ndarray = field(default_factory=_empty)

    def __len__(self) -> int:
        """Return the number of finite values."""
        return len(self.values)

    @property
    def last(self) -> float:
        """The newest finite value; NaN if there is none."""
        return float(self.values[-1]) if len(self) else float("nan")

    @classmethod
    def of(cls, name: str, steps: np.ndarray, values: np.ndarray) -> "Series":
        """Return the series of rows in the order written: of a step written twice the last counts.

        Args:
            name: Of the series.
            steps: Shape ``(n,)``.
            values: Shape ``(n,)``: NaN where nothing was written, infinite where it was not finite.
        """
        written = ~np.isnan(values) & np.isfinite(steps)
        steps, values = steps[written], values[written]
        order = np.argsort(steps, kind="stable")
        steps, values = steps[order], values[order]
        newest = np.append(steps[1:] != steps[:-1], True) if len(steps) else written[:0]
        steps, values = steps[newest], values[newest]
        good = np.isfinite(values)
        return cls(name, steps[good], values[good], steps[~good])


def thinned(series: Series, buckets: int = MOST_POINTS) -> Series:
    """Return at most ``2 * buckets + 2`` points: ends, and lowest and highest of equal buckets."""
    if len(series) <= 2 * buckets + 2:
        return series
    edges = np.linspace(series.steps[0], series.steps[-1], buckets + 1)
    cuts = np.searchsorted(series.steps, edges[1:-1])
    kept = {0, len(series) - 1}
    for first, after in zip([0, *cuts], [*cuts, len(series)], strict=True):
        if first < after:
            part = series.values[first:after]
            kept |= {int(first + part.argmin()), int(first + part.argmax())}
    rows = np.array(sorted(kept))
    return Series(series.name, series.steps[rows], series.values[rows], series.bad)


def smoothed(series: Series, share: float) -> Series:
    """Return the mean over a centred window of ``share`` of all points, narrower at the ends.

    The window is as wide to the left as to the right, so a smoothed curve does not lag.
    """
    count = len(series)
    half = int(count * share / 2)
    if half < 1:
        return series
    sums = np.concatenate([[0.0], np.cumsum(series.values)])
    rows = np.arange(count)
    reach = np.minimum(np.minimum(rows, count - 1 - rows), half)
    means = (sums[rows + reach + 1] - sums[rows - reach]) / (2 * reach + 1)
    return Series(series.name, series.steps, means, series.bad)


def on_grid(series: Series, edges: np.ndarray) -> np.ndarray:
    """Return the mean of the values in each interval of ``edges``; NaN where none fell.

    Args:
        series: What is averaged.
        edges: Ascending steps, shape ``(m + 1,)``; the last interval is closed.

    Returns:
        Shape ``(m,)``.
    """
    place = np.clip(np.searchsorted(edges, series.steps, side="right") - 1, 0, len(edges) - 2)
    sums = np.bincount(place, weights=series.values, minlength=len(edges) - 1)
    counts = np.bincount(place, minlength=len(edges) - 1)
    means = np.full(len(edges) - 1, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means
