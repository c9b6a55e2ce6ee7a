"""Checkpoints of a run: at the start, when due, when it is stopped and at the end.

``checkpoints/last.ckpt`` is always the newest one. It is written beside, flushed to disk and
renamed, so that a crash while writing leaves the previous one whole; copies by step and the best
one are further names of the same bytes where the file system has links. Two copies are kept by
default, the newest and the one before: where the newest bytes are damaged, a run goes on from the
others.
"""

import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from flowgen.core import InputError
from flowgen.pipeline import atomic
from flowgen.pipeline.checkpoint import LAST
from flowgen.training.interruption import StopRequested
from flowgen.training.loggers.worker import tell
from flowgen.training.processes import Processes
from flowgen.training.state import capture

_COPY = re.compile(r"step_(\d{7,})\.ckpt")
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}")
_BETTER = {"min": float.__lt__, "max": float.__gt__}


class Checkpoints(Checkpoint):
    """Writes ``checkpoints/last.ckpt``, and copies by step and of the best where asked to.

    A full disk costs a line and no training: the checkpoint before stays and the next due point
    tries again. Only the very first must succeed, and the last.

    Args:
        folder: The run folder.
        every_n_steps: Optimiser steps between checkpoints, or None.
        every_n_minutes: Also after so many minutes without one, or None.
        keep_last: How many ``step_<n>.ckpt`` are kept, the newest one included.
        keep_every: Keep those whose step is a multiple of this for good, or None.
        best_metric: Name of a logged number; ``best.ckpt`` is the checkpoint with its best value,
            looked at whenever one is due. None for no such file.
        best_mode: Whether the ``min`` or the ``max`` of it is best.

    Raises:
        InputError: If a number is out of range, or ``best_mode`` is neither.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_n_steps: int | None = 1000,
        every_n_minutes: float | None = None,
        keep_last: int = 2,
        keep_every: int | None = None,
        best_metric: str | None = None,
        best_mode: str = "min",
    ) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("keep_every", keep_every)):
            if value is not None and value < 1:
                raise InputError(f"callbacks.checkpoints.{name} must be >= 1, got {value}")
        if every_n_minutes is not None and not every_n_minutes > 0:
            raise InputError(
                f"callbacks.checkpoints.every_n_minutes must be > 0, got {every_n_minutes}"
            )
        if keep_last < 0:
            raise InputError(f"callbacks.checkpoints.keep_last must be >= 0, got {keep_last}")
        if best_mode not in _BETTER:
            raise InputError(f"callbacks.checkpoints.best_mode must be min or max, got {best_mode}")
        self.folder = Path(folder)
        self.path = self.folder / LAST
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self.keep_last = keep_last
        self.keep_every = keep_every
        self.best_metric = best_metric
        self.best_mode = best_mode
        self._best: float | None = None
        self._missing_told = False
        self._saved: tuple[int, int] | None = None
        self._looked_at = 0
        self._since = 0.0
        self._processes: Processes | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {} if self._best is None else {"best": self._best, "metric": self.best_metric}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best value so far, if it is one of the same metric."""
        if state_dict["metric"] == self.best_metric:
            self._best = float(state_dict["best"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save before the first step: a full disk or a bad folder shows now.

        Raises:
            InputError: If that fails.
        """
        self._processes = Processes(trainer)
        self._since = time.monotonic()
        self._looked_at = trainer.global_step
        if trainer.is_global_zero:
            _remove_leftovers(self.folder, self.path.parent)
        if trainer.global_step > 0:  # resumed, from a checkpoint
            self._saved = self._place(trainer, pl_module)
            return
        problem = self._save(trainer, pl_module)
        if problem:
            raise InputError(
                f"the first checkpoint cannot be written to {self.path.parent} ({problem}): make "
                "room, or give another run_dir"
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save where the step or the time is due."""
        del outputs, batch, batch_idx
        step = trainer.global_step
        due = step > self._looked_at and any(
            every is not None and step % every == 0
            for every in (self.every_n_steps, self.keep_every)
        )
        self._looked_at = step
        if self.every_n_minutes is not None:
            assert self._processes is not None
            late = time.monotonic() - self._since > 60 * self.every_n_minutes
            [late_anywhere] = self._processes.largest(int(late))
            due = due or bool(late_anywhere)
        if due:
            problem = self._save(trainer, pl_module)
            if problem:
                self._tell(f"the checkpoint of step {step} cannot be written ({problem}): ")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights.

        Raises:
            InputError: If that fails: what was learnt since the last checkpoint is lost.
        """
        problem = self._save(trainer, pl_module)
        if problem:
            raise InputError(
                f"the final checkpoint cannot be written to {self.path.parent} ({problem}): make "
                "room and resume the run from the one before"
            )

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save what was learnt when somebody asks to stop."""
        if isinstance(exception, StopRequested) and self._processes is not None:
            problem = self._save(trainer, pl_module)
            if problem:
                self._tell(f"the last steps are lost, no checkpoint can be written ({problem}): ")

    def _tell(self, line: str) -> None:
        tell(f"{line}the one before stays, and the next due point tries again")

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Save unless it has been saved; return why it could not be, or nothing."""
        assert self._processes is not None
        self._since = time.monotonic()
        place = self._place(trainer, pl_module)
        if place == self._saved:
            return ""
        best, better = self._best, self._better(trainer)
        content = capture(trainer, self._processes)
        problem = ""
        if trainer.is_global_zero:
            problem = self._write(content, trainer.global_step, better)
        problem = self._processes.from_first(problem)
        if problem:
            self._best = best
        else:
            self._saved = place
        return problem

    def _place(self, trainer: Trainer, pl_module: LightningModule) -> tuple[int, int]:
        return trainer.global_step, int(getattr(pl_module, "batches_seen", 0))

    def _write(self, content: dict[str, Any], step: int, better: bool) -> str:
        try:
            with _disk(), atomic(self.path) as temporary, temporary.open("wb") as file:
                torch.save(content, file)
        except OSError as error:
            return error.strerror or str(error)
        try:
            if better:
                _copy(self.path, self.path.with_name("best.ckpt"))
            if self._kept(step) or self.keep_last:
                _copy(self.path, self.path.with_name(f"step_{step:07d}.ckpt"))
            self._remove_old(step)
        except OSError as error:
            tell(f"no copy of the checkpoint of step {step} ({error.strerror or error})")
        return ""

    def _kept(self, step: int) -> bool:
        return self.keep_every is not None and step > 0 and step % self.keep_every == 0

    def _remove_old(self, step: int) -> None:
        found = {
            int(match[1]): path
            for path in self.path.parent.iterdir()
            if (match := _COPY.fullmatch(path.name))
        }
        # Later ones are of a future that a resumed run has left.
        past = sorted(each for each in found if each <= step)
        newest = past[max(0, len(past) - self.keep_last) :]
        for each in found:
            if each not in newest and not (each <= step and self._kept(each)):
                found[each].unlink(missing_ok=True)

    def _better(self, trainer: Trainer) -> bool:
        """Whether the metric is better than ever; remembered as the best from now on."""
        if self.best_metric is None or trainer.global_step == 0:
            return False
        found = trainer.callback_metrics.get(self.best_metric)
        if found is None:
            if trainer.callback_metrics and not self._missing_told:
                self._missing_told = True
                known = ", ".join(sorted(trainer.callback_metrics))
                tell(f"best_metric: there is no '{self.best_metric}' yet; there are: {known}")
            return False
        value = float(found)
        if math.isnan(value):
            return False
        if self._best is not None and not _BETTER[self.best_mode](value, self._best):
            return False
        self._best = value
        return True


@contextmanager
def _disk() -> Iterator[None]:
    """Raise the system's error where torch hides it behind one of its own."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _copy(file: Path, target: Path) -> None:
    """Give ``file`` a second name, replacing what had it; copy it where there are no links."""
    temporary = target.with_name(f".{target.name}.linking_")
    temporary.unlink(missing_ok=True)
    try:
        os.link(file, temporary)
        temporary.replace(target)
    except OSError:
        with atomic(target) as copy:
            shutil.copyfile(file, copy)
    finally:
        # Renaming one name of a file to another name of it does nothing.
        temporary.unlink(missing_ok=True)


def _remove_leftovers(*folders: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for folder in folders:
        with suppress(OSError):
            for path in folder.iterdir():
                if _LEFTOVER.fullmatch(path.name) and path.is_file():
                    path.unlink(missing_ok=True)
