"""Loss per time bin: where along the path the model still errs.

Sums are kept on the device and read only when the log is due, so training never waits for them.
"""

import torch
from torch import Tensor

from flowgen.core import Loss


class TimeBins:
    """Running mean of the unweighted loss in equal bins of ``t``.

    Args:
        num_bins: Bins of ``[0, 1]``.
        device: Where the sums live.
    """

    def __init__(self, num_bins: int, device: torch.device) -> None:
        self.num_bins = num_bins
        self.sums = torch.zeros(2, num_bins, dtype=torch.float32, device=device)

    def add(self, loss: Loss) -> None:
        """Add the rows of a detached loss; those that are not finite are left out."""
        index = (loss.t * self.num_bins).long().clamp(0, self.num_bins - 1)
        value = loss.value.float()
        finite = value.isfinite()
        value = torch.where(finite, value, torch.zeros_like(value))
        self.sums.index_add_(1, index, torch.stack([value, finite.float()]))

    def means(self) -> Tensor:
        """Return the mean of each bin, shape ``(num_bins,)``; NaN where no time fell."""
        return self.sums[0] / self.sums[1]

    def reset(self) -> None:
        """Start again from nothing."""
        self.sums.zero_()
