"""Pictures of samples during training, always from the same noise, so that progress shows."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from flowgen.core import InputError
from flowgen.data import DataSource
from flowgen.pipeline import save_picture
from flowgen.pipeline.images import save_beside
from flowgen.training.loggers import show_picture
from flowgen.training.module import FlowModule
from flowgen.training.stretches import multiple_after


class SampleGrid(Callback):
    """Writes ``samples/step_<n>.png`` with the averaged weights, and shows it to the loggers.

    Args:
        folder: The run folder.
        every_n_steps: Optimiser steps between pictures; one more is made at the end.
        num_samples: Samples on a picture; a conditional model takes every class in turn.
        columns: Images in a row.
        seed: Of the noise.

    Raises:
        InputError: If a number is below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every_n_steps: int = 500,
        num_samples: int = 50,
        columns: int = 10,
        seed: int = 0,
    ) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("num_samples", num_samples)):
            if value < 1:
                raise InputError(f"callbacks.sample_grid.{name} must be >= 1, got {value}")
        self.folder = Path(folder) / "samples"
        self.every_n_steps = every_n_steps
        self.num_samples = num_samples
        self.columns = columns
        self.seed = seed
        self._drawn = -1

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
        """Draw where the step is due."""
        del outputs, batch, batch_idx
        # A first batch that is skipped ends at step 0.
        if trainer.global_step > 0 and trainer.global_step % self.every_n_steps == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last picture."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, module: LightningModule) -> None:
        step = trainer.global_step
        if step == self._drawn:
            return
        self._drawn = step
        assert isinstance(module, FlowModule)
        pipeline = module.averaged()  # by every process, which may hold a part of the weights
        if not trainer.is_global_zero:
            return
        path = self.folder / f"step_{step:07d}.png"
        source = pipeline.source
        if isinstance(source, DataSource):
            count = min(self.num_samples, source.count)
            ends = pipeline.sample(count)
            save_beside(source.stored(range(count)), ends, path, columns=self.columns)
        else:
            samples = pipeline.sample(self.num_samples, seed=self.seed)
            save_picture(samples, path, columns=self.columns, title=f"step {step}")
        show_picture(trainer.loggers, "samples", path, step)
