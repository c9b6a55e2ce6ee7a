"""What a person sees while training: where it stands, the time left, the rate and the loss.

A terminal gets one live bar; a file, a pipe or a notebook gets a plain line every half minute. The
time per step is told as soon as it is known, and at the latest a few seconds after the first step.
"""

import sys
import time
from typing import Any, Protocol

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from flowgen.core import InputError

SOON = 5.0
"""Seconds after the first step within which the time per step is told, if a step is shorter."""


class Progress(Callback):
    """Shows optimiser steps done; on the first steps it measures the time per step.

    Args:
        measure: Steps over which the time per step is measured, once the first is done.
        line_every: Seconds between lines where there is no terminal.

    Raises:
        InputError: If ``measure`` is below 1 or ``line_every`` is negative.
    """

    def __init__(self, *, measure: int = 20, line_every: float = 30.0) -> None:
        if measure < 1:
            raise InputError(f"callbacks.progress.measure must be >= 1, got {measure}")
        if line_every < 0:
            raise InputError(f"callbacks.progress.line_every must be >= 0, got {line_every}")
        self.measure = measure
        self.line_every = line_every
        self._view: _View | None = None
        self._start = 0.0
        self._first = 0
        self._from: int | None = None
        self._told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the view, and say where a resumed run starts."""
        del pl_module
        self._first, self._from = trainer.global_step, None
        self._told = False
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            self._view = _Bar(trainer.global_step, trainer.max_steps)
        else:
            self._view = _Lines(trainer.global_step, trainer.max_steps, self.line_every)
        if self._first > 0:
            self._view.say(f"goes on at step {self._first} of {trainer.max_steps}")

    def next_due(self, step: int) -> int | None:
        """Be called after any step: the view shows what has been done by then."""
        del step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance the view."""
        del outputs, batch, batch_idx
        if self._view is None:
            return
        if self._from is None and trainer.global_step > self._first:
            self._from, self._start = trainer.global_step, _now(pl_module.device)
        done = trainer.global_step - (self._from or 0)
        if self._from and done and not self._told and (done >= self.measure or self._waited()):
            self._told = True
            each = (_now(pl_module.device) - self._start) / done
            left = _duration(each * (trainer.max_steps - trainer.global_step))
            self._view.say(f"time per step {1e3 * each:.1f} ms, about {left} to go")
        loss = trainer.callback_metrics.get("loss")
        self._view.show(trainer.global_step, None if loss is None else float(loss))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the view."""
        del trainer, pl_module
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the view, so that the message stands on a line of its own."""
        del trainer, pl_module, exception
        self._close()

    def _waited(self) -> bool:
        return time.perf_counter() - self._start > SOON

    def _close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None


class _View(Protocol):
    def say(self, text: str) -> None: ...

    def show(self, step: int, loss: float | None) -> None: ...

    def close(self) -> None: ...


class _Bar:
    """A live bar on a terminal."""

    def __init__(self, step: int, steps: int) -> None:
        self.bar = tqdm(
            total=steps,
            initial=step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            file=sys.stderr,
            mininterval=0.2,
        )

    def say(self, text: str) -> None:
        self.bar.write(text, file=sys.stderr)

    def show(self, step: int, loss: float | None) -> None:
        if loss is not None:
            self.bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self.bar.update(step - self.bar.n)

    def close(self) -> None:
        self.bar.close()


class _Lines:
    """A line now and then, where a bar would only be noise."""

    def __init__(self, step: int, steps: int, every: float) -> None:
        self.steps = steps
        self.every = every
        self.last = (step, time.perf_counter())
        self.step, self.loss = step, None

    def say(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def show(self, step: int, loss: float | None) -> None:
        self.step, self.loss = step, loss
        if time.perf_counter() - self.last[1] >= self.every:
            self._line()

    def close(self) -> None:
        if self.step > self.last[0]:
            self._line()

    def _line(self) -> None:
        now = time.perf_counter()
        each = (now - self.last[1]) / max(1, self.step - self.last[0])
        loss = "" if self.loss is None else f", loss {self.loss:.4f}"
        left = _duration(each * (self.steps - self.step))
        self.say(f"step {self.step}/{self.steps}{loss}, {1e3 * each:.1f} ms a step, {left} to go")
        self.last = (self.step, now)


def _duration(seconds: float) -> str:
    """Return a time in the unit a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _now(device: torch.device) -> float:
    """Return the time, once the accelerator has done what it was given: twice in a run only."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
