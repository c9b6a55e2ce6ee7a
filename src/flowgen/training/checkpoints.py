"""Checkpoints of a run: at the start, every N steps, at the end and when a run is interrupted.

``checkpoints/last.ckpt`` is always the newest one; it is written beside and renamed, so that a
crash while writing leaves the previous one whole.
"""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from flowgen.core import InputError
from flowgen.pipeline import atomic
from flowgen.pipeline.checkpoint import LAST


class Checkpoints(Checkpoint):
    """Writes ``checkpoints/last.ckpt``, and keeps copies by step where asked to.

    Args:
        folder: The run folder.
        every_n_steps: Optimiser steps between checkpoints.
        keep: Also keep ``step_<n>.ckpt`` for each of them.

    Raises:
        InputError: If ``every_n_steps`` is below 1.
    """

    def __init__(
        self, folder: str | Path, *, every_n_steps: int = 1000, keep: bool = False
    ) -> None:
        if every_n_steps < 1:
            raise InputError(
                f"callbacks.checkpoints.every_n_steps must be >= 1, got {every_n_steps}"
            )
        self.path = Path(folder) / LAST
        self.every_n_steps = every_n_steps
        self.keep = keep
        self._saved = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save before the first step: a full disk or a bad folder shows now."""
        del pl_module
        self._save(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save where the step is due."""
        del pl_module, outputs, batch, batch_idx
        if trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights."""
        del pl_module
        self._save(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save what was learnt when the user interrupts."""
        del pl_module
        if isinstance(exception, KeyboardInterrupt) and trainer.global_step > 0:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if step == self._saved:
            return
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if trainer.is_global_zero:
            with atomic(self.path) as temporary:
                torch.save(content, temporary)
            if self.keep:
                with atomic(self.path.with_name(f"step_{step:07d}.ckpt")) as temporary:
                    torch.save(content, temporary)
        self._saved = step
