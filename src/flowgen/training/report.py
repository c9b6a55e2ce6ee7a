"""``report.html`` kept up to date while a run trains."""

import logging
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from flowgen.core import InputError
from flowgen.report import write_report
from flowgen.training.stretches import multiple_after

SHARE = 0.02
"""Largest share of the time of a run that goes into its report."""

log = logging.getLogger(__name__)


class Report(Callback):
    """Writes ``report.html``: when training begins, every so many steps, and when it ends.

    A report that cannot be written costs a warning, never the run. Where a report takes long, as
    with very large pictures, some are left out so that all together take 2% of the time at most.

    Args:
        folder: The run folder.
        every_n_steps: Optimiser steps between reports.

    Raises:
        InputError: If ``every_n_steps`` is below 1.
    """

    def __init__(self, folder: str | Path, *, every_n_steps: int = 500) -> None:
        if every_n_steps < 1:
            raise InputError(f"callbacks.report.every_n_steps must be >= 1, got {every_n_steps}")
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self._looked_at = 0
        self._began = 0.0
        self._spent = 0.0
        self._warned = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the first report, so that there is a page to open from the start."""
        del pl_module
        self._looked_at = trainer.global_step
        self._began, self._spent = time.monotonic(), 0.0
        self._write(trainer)
        self._spent = 0.0  # the first one pays for imports

    def next_due(self, step: int) -> int | None:
        """Return the first step after ``step`` that it must be called after."""
        return multiple_after(step, self.every_n_steps)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a report where the step is due."""
        del pl_module, outputs, batch, batch_idx
        affordable = self._spent <= SHARE * (time.monotonic() - self._began)
        step, before = trainer.global_step, self._looked_at
        self._looked_at = step
        # Batches that are skipped end at the step of the one before.
        if step > before and step % self.every_n_steps == 0 and affordable:
            self._write(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last report, after every other part has logged and saved its last."""
        del pl_module
        self._write(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write what there is when training breaks off."""
        del pl_module, exception
        self._write(trainer)

    def finish(self) -> None:
        """Write the last report, once ``run.json`` says how the run ended; on one process only."""
        self._rebuild()

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            self._rebuild()

    def _rebuild(self) -> None:
        start = time.monotonic()
        try:
            write_report(self.folder)
        except Exception as error:  # noqa: BLE001 - a report never stops a run
            if not self._warned:
                reason = " ".join(str(error).split())[:160] or type(error).__name__
                log.warning("report.html was not written (%s); training goes on", reason)
            self._warned = True
        self._spent += time.monotonic() - start
