"""What a training run writes every so many steps: means since the last row, and the latest numbers.

Numbers are kept on the device and read only when a row is due, so training never waits for them.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from flowgen.core import Loss
from flowgen.training.time_bins import TimeBins


class StepLog:
    """Gathers the figures of steps until they are written.

    Args:
        num_bins: Time bins of the loss.

    Attributes:
        latest: Numbers of the last step taken, by column; empty where nothing waits to be written.
        bins: Sums of the loss since the last row; None before the first step.
    """

    def __init__(self, num_bins: int) -> None:
        self.num_bins = num_bins
        self.latest: dict[str, float | Tensor] = {}
        self.bins: TimeBins | None = None
        self._losses: Sequence[Loss] = ()

    def add(self, losses: Sequence[Loss], figures: Mapping[str, float | Tensor]) -> None:
        """Take in a step.

        Args:
            losses: Of its micro-batches, detached.
            figures: Its other numbers, by column.
        """
        self.latest = dict(figures)
        self._losses = losses
        if self.bins is None:
            self.bins = TimeBins(self.num_bins, losses[0].value.device)
        for loss in losses:
            self.bins.add(loss)

    def row(self, over_all: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return what is to be written, and start again.

        Args:
            over_all: Returns the sum of a tensor over all processes.

        Returns:
            Numbers by column: the mean loss, the latest figures, the mean loss of each time bin,
            NaN where no time fell.
        """
        assert self.bins is not None
        self.bins.sums = over_all(self.bins.sums)
        total, count = self.bins.sums.sum(dim=1).tolist()
        row = {"loss": total / count}
        row |= {name: float(value) for name, value in self.latest.items()}
        for name in self._losses[0].terms:
            parts = [loss.terms[name].flatten() for loss in self._losses]
            row[f"loss/{name}"] = float(torch.cat(parts).mean())
        for i, mean in enumerate(self.bins.means().tolist()):
            row[f"loss/t{i / self.num_bins:.1f}"] = mean
        self.bins.reset()
        self.latest, self._losses = {}, ()
        return row

    def state(self) -> Tensor | None:
        """Return the sums of this process since the last row, ``(2, num_bins)``, None without."""
        return None if self.bins is None else self.bins.sums

    def load(self, sums: Tensor | None, device: torch.device) -> None:
        """Go on where :meth:`state` was taken.

        Args:
            sums: What it returned.
            device: Where the sums live.
        """
        self.bins = None
        if sums is not None:
            self.bins = TimeBins(self.num_bins, device)
            self.bins.sums.copy_(sums)
