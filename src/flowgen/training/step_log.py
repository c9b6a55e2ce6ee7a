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
        num_bins: Time bins of the loss, and of the term ``residual`` where an objective gives it
            for each row: a loss that saturates does not show where a student still errs.

    Attributes:
        latest: Numbers of the last step taken, by column; empty where nothing waits to be written.
        bins: Sums of the loss since the last row; None before the first step.
        residuals: Sums of the residual; None where no objective has given one.
    """

    def __init__(self, num_bins: int) -> None:
        self.num_bins = num_bins
        self.latest: dict[str, float | Tensor] = {}
        self.bins: TimeBins | None = None
        self.residuals: TimeBins | None = None
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
            residual = loss.terms.get("residual")
            if residual is not None and residual.ndim == 1:
                if self.residuals is None:
                    self.residuals = TimeBins(self.num_bins, loss.value.device)
                self.residuals.add_rows(loss.t, residual)

    def row(self, over_all: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return what is to be written, and start again.

        Args:
            over_all: Returns the sum of a tensor over all processes.

        Returns:
            Numbers by column: the mean loss, the latest figures, the mean loss and
            the mean residual, if there is one, of each time bin, NaN where no time fell.
        """
        sums = self.state()
        assert sums is not None
        assert self.bins is not None
        # Together, so that processes meet once.
        self._set(over_all(sums))
        total, count = self.bins.sums.sum(dim=1).tolist()
        row = {"loss": total / count}
        row |= {name: float(value) for name, value in self.latest.items()}
        for name in self._losses[0].terms:
            parts = [loss.terms[name].flatten() for loss in self._losses]
            row[f"loss/{name}"] = float(torch.cat(parts).mean())
        for name, bins in (("loss", self.bins), ("residual", self.residuals)):
            if bins is None:
                continue
            for i, mean in enumerate(bins.means().tolist()):
                row[f"{name}/t{i / self.num_bins:.1f}"] = mean
            bins.reset()
        self.latest, self._losses = {}, ()
        return row

    def state(self) -> Tensor | None:
        """Return the sums of this process since the last row, None without.

        Their shape is ``(2, num_bins)``, or ``(4, num_bins)`` with those of the residual below.
        """
        if self.bins is None or self.residuals is None:
            return None if self.bins is None else self.bins.sums
        return torch.cat([self.bins.sums, self.residuals.sums])

    def load(self, sums: Tensor | None, device: torch.device) -> None:
        """Go on where :meth:`state` was taken.

        Args:
            sums: What it returned; those of earlier versions are of the loss alone.
            device: Where the sums live.
        """
        self.bins, self.residuals = None, None
        if sums is not None:
            self.bins = TimeBins(self.num_bins, device)
            if len(sums) > 2:
                self.residuals = TimeBins(self.num_bins, device)
            self._set(sums.to(device, copy=True))

    def _set(self, sums: Tensor) -> None:
        for part, bins in zip(sums.split(2), (self.bins, self.residuals), strict=False):
            assert bins is not None
            bins.sums = part
