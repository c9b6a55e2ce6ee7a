"""Checkpoints of a run: at the start, when due, when it is stopped and at the end.

``checkpoints/last.ckpt`` is always the newest one. It is written beside, flushed to disk and
renamed, so that a crash while writing leaves the previous one whole; copies by step and the best
one are further names of the same bytes where the file system has links. Two copies are kept by
default, the newest and the one before: where the newest bytes are damaged, a run goes on from the
others.

Training need not wait for the disk: the state of the step is copied to main memory, and a thread
writes the copy while the next steps are taken. One file at most is being written; the next one, the
end of the run and a request to stop wait for it.
"""

import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from flowgen.core import InputError
from flowgen.pipeline.checkpoint import LAST
from flowgen.training.checkpoint_files import CheckpointFiles, remove_leftovers
from flowgen.training.host_copy import free_memory, host_copy, tensor_bytes
from flowgen.training.interruption import StopRequested
from flowgen.training.loggers.worker import tell
from flowgen.training.processes import Processes
from flowgen.training.state import capture
from flowgen.training.stretches import multiple_after
from flowgen.training.writer import Writer

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
        asynchronous: Whether due checkpoints are written while training goes on; None where a copy
            of the state takes at most a third of the free main memory. The first and the last one
            are always waited for.

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
        asynchronous: bool | None = None,
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
        self.asynchronous = asynchronous
        self.files = CheckpointFiles(self.path, keep_last, keep_every)
        self._best: float | None = None
        self._missing_told = False
        self._saved: tuple[int, int] | None = None
        self._writer = Writer()
        self._before: tuple[float | None] | None = None
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
            remove_leftovers(self.folder, self.path.parent)
        if trainer.global_step > 0:  # resumed, from a checkpoint
            self._saved = self._place(trainer, pl_module)
            return
        problem = self._save(trainer, pl_module, wait=True)
        if problem:
            raise InputError(
                f"the first checkpoint cannot be written to {self.path.parent} ({problem}): make "
                "room, or give another run_dir"
            )

    def next_due(self, step: int) -> int | None:
        """Return the first step after ``step`` that it must be called after."""
        return multiple_after(step, self.every_n_steps, self.keep_every)

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
        if self._writer.broken:
            self._writer.finish()
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
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final weights.

        Raises:
            InputError: If that fails: what was learnt since the last checkpoint is lost.
        """
        problem = self._save(trainer, pl_module, wait=True)
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
            problem = self._save(trainer, pl_module, wait=True)
            if problem:
                self._tell(f"the last steps are lost, no checkpoint can be written ({problem}): ")

    def _tell(self, line: str) -> None:
        tell(f"{line}the one before stays, and the next due point tries again")

    def _save(self, trainer: Trainer, pl_module: LightningModule, *, wait: bool = False) -> str:
        """Save unless it has been saved.

        With ``wait`` return why it could not be, or nothing; without, that is told once it is known
        and returned never.
        """
        assert self._processes is not None
        self._since = time.monotonic()
        self._finish()
        place = self._place(trainer, pl_module)
        if place == self._saved:
            return ""
        best, better = self._best, self._better(trainer)
        content = capture(trainer, self._processes)
        self._saved, self._before = place, (best,)
        if trainer.is_global_zero:
            step, behind = trainer.global_step, not wait and self._has_room(content)
            kept = host_copy(content) if behind else content

            def work() -> str:
                problem = self._write(kept, step, better)
                if problem and not wait:
                    self._tell(f"the checkpoint of step {step} cannot be written ({problem}): ")
                return problem

            self._writer.start(work, behind=behind)
        return self._finish() if wait else ""

    def _finish(self) -> str:
        """Wait for what is being written; return why it could not be, or nothing."""
        if self._before is None:
            return ""
        assert self._processes is not None
        problem = self._processes.from_first(self._writer.finish())
        if problem:
            self._saved, [self._best] = None, self._before
        self._before = None
        return problem

    def _has_room(self, content: dict[str, Any]) -> bool:
        if self.asynchronous is not None:
            return self.asynchronous
        free = free_memory()
        return free is not None and 3 * tensor_bytes(content) <= free

    def _place(self, trainer: Trainer, pl_module: LightningModule) -> tuple[int, int]:
        return trainer.global_step, int(getattr(pl_module, "batches_seen", 0))

    def _write(self, content: dict[str, Any], step: int, better: bool) -> str:
        return self.files.write(content, step, best=better)

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
