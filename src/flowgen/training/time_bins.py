"""Loss, or another figure of rows, per time bin: where along the path the model still errs.

Sums are kept on the device and read only when the log is due, so training never waits for them.
"""

import torch
from torch import Tensor

from flowgen.core import Loss

TOGETHER = 32
"""Losses that are added up at once: a few operations for all, not for each."""


class TimeBins:
    """Running mean of the unweighted loss, or of another figure of rows, in equal bins of ``t``.

    Args:
        num_bins: Bins of ``[0, 1]``.
        device: Where the sums live.
    """

    def __init__(self, num_bins: int, device: torch.device) -> None:
        self.num_bins = num_bins
        self._sums = torch.zeros(2, num_bins, dtype=torch.float32, device=device)
        self._waiting: list[tuple[Tensor, Tensor]] = []

    @property
    def sums(self) -> Tensor:
        """Sum of the figures in each bin, and number of rows, shape ``(2, num_bins)``."""
        self._fold()
        return self._sums

    @sums.setter
    def sums(self, value: Tensor) -> None:
        self._waiting.clear()
        self._sums = value

    def add(self, loss: Loss) -> None:
        """Add the rows of a detached loss; those that are not finite are left out."""
        self.add_rows(loss.t, loss.value)

    def add_rows(self, t: Tensor, value: Tensor) -> None:
        """Add a detached figure of the first rows; those that are not finite are left out.

        Args:
            t: Times of all rows, ``(b,)``.
            value: Figure of the first ``k <= b`` of them, ``(k,)``.
        """
        self._waiting.append((t[: len(value)], value))
        if len(self._waiting) >= TOGETHER:
            self._fold()

    def means(self) -> Tensor:
        """Return the mean of each bin, shape ``(num_bins,)``; NaN where no time fell."""
        return self.sums[0] / self.sums[1]

    def reset(self) -> None:
        """Start again from nothing."""
        self.sums.zero_()

    def _fold(self) -> None:
        if not self._waiting:
            return
        t, value = (torch.cat(each) for each in zip(*self._waiting, strict=True))
        self._waiting.clear()
        index = (t * self.num_bins).long().clamp(0, self.num_bins - 1)
        value = value.float()
        finite = value.isfinite()
        value = torch.where(finite, value, torch.zeros_like(value))
        self._sums[0].scatter_add_(0, index, value)
        self._sums[1].scatter_add_(0, index, finite.float())
