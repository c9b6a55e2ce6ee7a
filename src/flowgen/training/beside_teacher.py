"""Student and teacher from the same noise while a student learns: a picture and a number.

Where a sample of the student ends and where the teacher takes the same noise: for methods that
learn the teacher's flow map this distance is what they minimise in the end. Methods that match
distributions may end elsewhere and still be good.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from flowgen.core import InputError
from flowgen.integrators import Heun, Sampler, Uniform
from flowgen.metrics import rmse
from flowgen.pipeline import Pipeline, save_comparison
from flowgen.training.loggers import log_figures, show_picture
from flowgen.training.module import FlowModule
from flowgen.training.stretches import multiple_after

PREFIX = "distill/"
"""Front of the names of errors in logs and in ``trainer.callback_metrics``."""


class BesideTeacher(Callback):
    """Writes ``samples/beside_<n>.png``, logs ``distill/error_<steps>``, when due and at the end.

    The error is the root of the mean square over all values, in units of model space, with the
    student's averaged weights.

    Args:
        folder: The run folder.
        every_n_steps: Optimiser steps between comparisons; one more is made at the end.
        num_samples: Samples in a picture.
        num_errors: Samples whose ends are compared.
        num_steps: Steps of the student; numbers that its sampler cannot take are left out.
        reference_steps: Steps of Heun's method along the teacher.
        seed: Of the noise.

    Raises:
        InputError: If a number is below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_n_steps: int = 500,
        num_samples: int = 10,
        num_errors: int = 64,
        num_steps: Sequence[int] = (1, 2, 4),
        reference_steps: int = 25,
        seed: int = 0,
    ) -> None:
        given = {
            "every_n_steps": every_n_steps,
            "num_samples": num_samples,
            "num_errors": num_errors,
            "num_steps": min(num_steps, default=0),
            "reference_steps": reference_steps,
        }
        for name, value in given.items():
            if value < 1:
                raise InputError(f"callbacks.beside_teacher.{name} must be >= 1, got {value}")
        self.folder = Path(folder) / "samples"
        self.every_n_steps = every_n_steps
        self.num_samples = num_samples
        self.num_errors = max(num_errors, num_samples)
        self.num_steps = tuple(num_steps)
        self.reference_steps = reference_steps
        self.seed = seed
        self._teacher: Pipeline | None = None
        self._ends: Tensor | None = None
        self._compared = -1

    def use(self, teacher: Pipeline) -> None:
        """Take the teacher, guided as it is distilled."""
        self._teacher = teacher

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find where the teacher takes the noise.

        Raises:
            InputError: If there is no teacher.
        """
        if self._teacher is None:
            raise InputError("callbacks.beside_teacher needs a teacher: use flowgen distill")
        if not trainer.is_global_zero:
            return
        sampler = Sampler(Heun(), Uniform(), self.reference_steps)
        teacher = self._teacher.to(pl_module.device).with_sampler(sampler)
        with isolate_rng():
            self._ends = teacher.sample(self.num_errors, seed=self.seed, decode=False)

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
        """Compare where the step is due, and after the last one."""
        del outputs, batch, batch_idx
        step = trainer.global_step
        due = step % self.every_n_steps == 0 or step == trainer.max_steps
        if step > 0 and due and step != self._compared:
            self._compared = step
            self._compare(trainer, pl_module)

    def _compare(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, FlowModule)
        step, averaged = trainer.global_step, module.averaged()
        if not trainer.is_global_zero:
            return
        assert self._ends is not None
        found: dict[str, Tensor] = {"teacher": self._ends}
        errors: dict[str, float] = {}
        with isolate_rng():
            for pipeline in few_step(averaged, self.num_steps):
                count = pipeline.sampler.num_steps
                ends = pipeline.sample(self.num_errors, seed=self.seed, decode=False)
                name = "1 step" if count == 1 else f"{count} steps"
                found[name] = ends
                if not pipeline.sampler.stochastic or count == 1:
                    errors[f"{PREFIX}error_{count}"] = rmse(ends, self._ends)
        for name, value in errors.items():
            trainer.callback_metrics[name] = torch.tensor(value)
        log_figures(trainer.loggers, errors, step)
        decode = averaged.codec.decode
        device = averaged.device
        pictures = {
            name: decode(x[: self.num_samples].to(device)).cpu() for name, x in found.items()
        }
        try:
            path = self.folder / f"beside_{step:07d}.png"
            save_comparison(pictures, path, title=f"step {step}")
        except InputError:
            return  # samples of a shape that cannot be drawn: the errors are logged
        show_picture(trainer.loggers, "beside teacher", path, step)


def few_step(pipeline: Pipeline, num_steps: Sequence[int]) -> list[Pipeline]:
    """Return the pipeline with each number of steps that its sampler and its map can take.

    Args:
        pipeline: A student.
        num_steps: Wanted; where none is possible the sampler's own number remains.
    """
    found = []
    for count in num_steps:
        try:
            one = pipeline.with_sampler(pipeline.sampler.with_num_steps(count))
            one.nfe()  # a map to fixed times refuses other nodes
        except InputError:
            continue
        found.append(one)
    return found or [pipeline]
