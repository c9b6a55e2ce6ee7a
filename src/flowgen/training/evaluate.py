"""Figures during training: a cheap evaluation with the averaged weights, every so many steps.

Samples always come from the same noise, so that a change of a figure is a change of the model. The
random state of the training is put back afterwards: a run takes the same steps with and without.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from flowgen.core import InputError
from flowgen.data import DataSet
from flowgen.evaluation import Figures, Measure, Setting, Shards, fitting, measured, numbers
from flowgen.evaluation import protocol as protocol_of
from flowgen.pipeline import Pipeline, atomic
from flowgen.training.loggers import log_figures, show_table
from flowgen.training.module import FlowModule
from flowgen.training.processes import Processes
from flowgen.training.stretches import multiple_after

PREFIX = "eval/"
"""Front of the names of figures in logs and in ``trainer.callback_metrics``."""

log = logging.getLogger(__name__)


class Evaluate(Callback):
    """Writes ``evaluations/step_<n>.json`` and logs ``eval/<figure>``, when due and at the end.

    All processes of a run share the work. A measure that fails on the present weights, e.g. since
    the training has diverged, costs a warning and not the run.

    Args:
        folder: The run folder.
        measures: What is measured, by any name; those that do not fit the data are left out.
        every_n_steps: Optimiser steps between evaluations; one more is made after the last step.
        num_samples: Samples of an evaluation, >= 2.
        num_steps: Steps of the sampler, or None for the pipeline's own.
        chunk: Samples integrated at once, >= 1; fewer where the memory does not suffice.
        seed: Of the samples.

    Raises:
        InputError: If a number is too small.
    """

    def __init__(
        self,
        folder: str | Path,
        measures: Mapping[str, Measure],
        *,
        every_n_steps: int = 1000,
        num_samples: int = 256,
        num_steps: int | None = None,
        chunk: int = 256,
        seed: int = 0,
    ) -> None:
        least = {"every_n_steps": 1, "num_samples": 2, "chunk": 1, "seed": 0}
        given = (every_n_steps, num_samples, chunk, seed)
        for (name, low), value in zip(least.items(), given, strict=True):
            if value < low:
                raise InputError(f"callbacks.evaluate.{name} must be >= {low}, got {value}")
        if num_steps is not None and num_steps < 1:
            raise InputError(f"callbacks.evaluate.num_steps must be >= 1, got {num_steps}")
        self.folder = Path(folder) / "evaluations"
        self.measures = list(measures.values())
        self.every_n_steps = every_n_steps
        self.num_samples = num_samples
        self.num_steps = num_steps
        self.chunk = chunk
        self.seed = seed
        self._data: DataSet | None = None
        self._setting: Setting | None = None
        self._measured = 0

    def use(self, data: DataSet, pipeline: Pipeline) -> None:
        """Take the data to compare with, and see that something can be measured.

        Args:
            data: With held-out samples.
            pipeline: What is going to be trained.

        Raises:
            InputError: If no measure fits.
        """
        self._data = data
        fitting(self.measures, Setting(pipeline, data, self.num_samples, self.seed, self.chunk))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the real data, so that what is missing shows now; forget a future that is left.

        Raises:
            InputError: If there are no data, or a measure cannot work here.
        """
        assert isinstance(pl_module, FlowModule)
        if self._data is None:
            raise InputError("callbacks.evaluate needs data: call use(data, pipeline) before")
        self._measured = trainer.global_step
        shards = Shards(trainer.global_rank, trainer.world_size, Processes(trainer).gather)
        pipeline = self._pipeline(pl_module)
        with isolate_rng():
            self._setting = Setting(
                pipeline, self._data, self.num_samples, self.seed, self.chunk, shards
            )
            self.measures = fitting(self.measures, self._setting)
            for measure in self.measures:
                measure.begin(self._setting)
        if trainer.is_global_zero:
            for path in self.folder.glob("step_*.json"):
                step = path.stem.removeprefix("step_")
                if step.isdigit() and int(step) > trainer.global_step:
                    path.unlink(missing_ok=True)

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
        """Evaluate where the step is due, and after the last one."""
        del outputs, batch, batch_idx
        step = trainer.global_step
        last = step == trainer.max_steps
        if step > self._measured and (last or step % self.every_n_steps == 0):
            self._measured = step
            self._evaluate(trainer, pl_module)

    def rehearse(self, module: FlowModule) -> None:
        """Do the work of one evaluation without keeping or logging anything.

        Args:
            module: With the pipeline given to :meth:`use`.

        Raises:
            InputError: If there are no data, or a measure cannot work here.
        """
        if self._data is None:
            raise InputError("callbacks.evaluate needs data: call use(data, pipeline) before")
        pipeline = self._pipeline(module)
        setting = Setting(pipeline, self._data, self.num_samples, self.seed, self.chunk)
        with isolate_rng():
            chosen = fitting(self.measures, setting)
            for measure in chosen:
                measure.begin(setting)
            measured(chosen, setting)

    def _evaluate(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, FlowModule)
        assert self._setting is not None
        step = trainer.global_step
        setting = self._setting.of(self._pipeline(module))
        try:
            with isolate_rng():
                figures = measured(self.measures, setting)
                about = protocol_of(setting) | {"step": step, "weights": "ema"}
        except InputError as error:
            log.warning("step %d was not evaluated (%s); training goes on", step, error)
            return
        found = numbers(figures)
        for name, value in found.items():
            trainer.callback_metrics[f"{PREFIX}{name}"] = torch.tensor(value)
        if trainer.is_global_zero:
            self._write(step, {"step": step, "figures": figures, "protocol": about})
        log_figures(trainer.loggers, {f"{PREFIX}{name}": v for name, v in found.items()}, step)
        show_table(trainer.loggers, "evaluation", _rows(figures), step)

    def _write(self, step: int, content: Mapping[str, Any]) -> None:
        try:
            with atomic(self.folder / f"step_{step:07d}.json") as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            reason = error.strerror or error
            log.warning("no file of the evaluation of step %d (%s); training goes on", step, reason)

    def _pipeline(self, module: FlowModule) -> Pipeline:
        pipeline = module.averaged()
        if self.num_steps is None:
            return pipeline
        return pipeline.with_sampler(pipeline.sampler.with_num_steps(self.num_steps))


def _rows(figures: Mapping[str, Figures]) -> dict[str, dict[str, float | str]]:
    """Return a table with a row for each figure, its floor beside it."""
    found = numbers(figures)
    rows: dict[str, dict[str, float | str]] = {}
    for name, value in found.items():
        if name.endswith("_floor") and name.removesuffix("_floor") in found:
            rows[name.removesuffix("_floor")]["floor"] = value
        else:
            rows[name] = {"value": value}
    return rows
