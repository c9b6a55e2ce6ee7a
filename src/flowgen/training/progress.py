"""What a person sees while training: one bar over all steps with the time left, rate and loss."""

import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm


class Progress(Callback):
    """A live bar over optimiser steps; on the first steps it measures the time per step.

    Args:
        measure: Steps over which the time per step is measured, after one warm-up step.
    """

    def __init__(self, *, measure: int = 20) -> None:
        self.measure = measure
        self._bar: tqdm | None = None
        self._start = 0.0
        self._first = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        del pl_module
        self._first = trainer.global_step
        if trainer.is_global_zero:
            self._bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                desc="training",
                unit="step",
                dynamic_ncols=True,
                file=sys.stderr,
                mininterval=0.2,
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the bar."""
        del outputs, batch, batch_idx
        if self._bar is None:
            return
        done = trainer.global_step - self._first
        if done == 1:
            self._start = _now(pl_module.device)
        elif done == 1 + self.measure:
            each = (_now(pl_module.device) - self._start) / self.measure
            left = each * (trainer.max_steps - trainer.global_step)
            self._bar.write(f"time per step {1e3 * each:.1f} ms, about {left / 60:.1f} min to go")
        self._bar.update(trainer.global_step - self._bar.n)
        loss = trainer.callback_metrics.get("loss")
        if loss is not None:
            self._bar.set_postfix(loss=f"{float(loss):.4f}", refresh=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        del trainer, pl_module
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the message stands on a line of its own."""
        del trainer, pl_module, exception
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _now(device: torch.device) -> float:
    """Return the time, once the accelerator has done what it was given: twice in a run only."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
