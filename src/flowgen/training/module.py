"""The one LightningModule. It names no method: the objects it is given decide what is learnt.

A batch goes codec -> source -> coupling -> condition dropout -> objective -> ``Loss.total()``. The
coupling sees the whole batch of this process; the model may see it in micro-batches, whose
gradients add up to those of the whole batch. Noise, times and dropout of conditions come from a
generator seeded by ``(seed, batch, rank)``, so a step is the same whenever it is taken. Batches are
counted apart from steps: a step that is skipped has used up its batch.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from flowgen.core import Coupling, InputError, Loss, Objective, Pair, generator_for
from flowgen.pipeline import Pipeline, description
from flowgen.pipeline.checkpoint import KEY, clean_names
from flowgen.training.ema import EMA
from flowgen.training.loggers import resume_at
from flowgen.training.time_bins import TimeBins


class FlowModule(LightningModule):
    """Trains the field of a pipeline.

    Args:
        pipeline: Whose field is trained; its config travels in every checkpoint.
        objective: Returns the loss of a batch of pairs.
        coupling: Decides which source sample meets which data sample.
        optimizer: From parameters to an optimiser, e.g. a partial ``AdamW``.
        lr_schedule: From the optimiser to its schedule, stepped once an optimiser step.
        ema_decay: Largest decay of the averaged weights.
        clip: Largest norm of the gradient; infinite for none.
        micro_batch: Most rows that pass through the model at once, or None for all.
        seed: Of noise, times and dropout of conditions.
        num_bins: Time bins of the logged loss.

    Raises:
        InputError: If the coupling would make the source depend on the condition.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        objective: Objective,
        coupling: Coupling,
        *,
        optimizer: Callable[..., Optimizer],
        lr_schedule: Callable[[Optimizer], LRScheduler],
        ema_decay: float = 0.999,
        clip: float = 1.0,
        micro_batch: int | None = None,
        seed: int = 0,
        num_bins: int = 10,
    ) -> None:
        super().__init__()
        if pipeline.conditioner is not None and not coupling.condition_safe:
            raise InputError(
                f"{type(coupling).__name__} with a label-conditional model makes the noise depend "
                "on the label, which sampling does not know: conditional samples come out skewed. "
                "Use coupling=class_assignment, or conditional=false"
            )
        if not clip > 0:
            raise InputError(f"clip must be > 0 (inf for none), got {clip}")
        if micro_batch is not None and micro_batch < 1:
            raise InputError(f"micro_batch must be >= 1, got {micro_batch}")
        self.automatic_optimization = False
        self.pipeline = pipeline
        self.objective = objective
        self.coupling = coupling
        self.ema = EMA(pipeline.field, decay=ema_decay)
        self.make_optimizer = optimizer
        self.make_lr_schedule = lr_schedule
        self.clip = clip
        self.micro_batch = micro_batch
        self.seed = seed
        self.num_bins = num_bins
        self.bins: TimeBins | None = None
        self.latest: dict[str, float | Tensor] = {}
        self.batches_seen = 0
        self.stepping = (
            False  # inside a step weights, optimiser and counters do not belong together
        )

    def averaged(self) -> Pipeline:
        """Return the pipeline with the averaged weights."""
        return self.pipeline.with_field(self.ema.field)

    def rehearse(self, batch: Mapping[str, Tensor]) -> None:
        """Take a batch through coupling and objective without learning, to see that all parts fit.

        Args:
            batch: A few rows, on the device of the module.

        Raises:
            InputError: If a part cannot treat what another gives it.
        """
        generator = generator_for(self.seed, device=self.device)
        with torch.no_grad():
            self._loss(self.pair(batch, generator), 0, generator)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and its schedule."""
        optimizer = self.make_optimizer(self.pipeline.field.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.make_lr_schedule(optimizer)}

    def pair(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Pair:
        """Return the coupled pairs of a batch ``{"x_1": (b, *d), "label": (b,)}``, in model space.

        Data may bring its own ``x_0``; otherwise the source is sampled.
        """
        x_1 = self.pipeline.codec.encode(batch["x_1"])
        x_0 = batch.get("x_0")
        if x_0 is None:
            x_0 = self.pipeline.source.sample(len(x_1), generator=generator, device=x_1.device)
        cond = None if self.pipeline.conditioner is None else {"label": batch["label"]}
        return self.coupling(Pair(x_0, x_1, cond), generator=generator)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        """Take one optimiser step on the share of the global batch that is this process's."""
        del batch_idx
        self.stepping = True
        step = self.global_step
        number = self.batches_seen
        generator = generator_for(self.seed, number, self.global_rank, device=self.device)
        with torch.no_grad():
            pair = self.pair(batch, generator)
        optimizer = cast("Optimizer", self.optimizers())
        schedule = cast("LRScheduler", self.lr_schedulers())

        optimizer.zero_grad()
        for chunk, last in _chunks(pair, self.micro_batch):
            loss = self._loss(chunk, step, generator)
            with self._synchronised(last):
                self.manual_backward(loss.total() * (len(chunk) / len(pair)))
            self._record(loss.detached())
        norm = clip_grad_norm_(self.pipeline.field.parameters(), self.clip)
        optimizer.step()
        schedule.step()
        self.ema.update(self.pipeline.field, step + 1)
        self.latest = dict(pair.stats) | {"grad_norm": norm, "lr": schedule.get_last_lr()[0]}
        every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if (step + 1) % every == 0 or step + 1 == self.trainer.max_steps:
            self._log()
        self.batches_seen = number + 1
        self.stepping = False

    def on_train_start(self) -> None:
        """Tell the loggers where the run starts, so that a resumed curve has no step twice."""
        resume_at(self.loggers, self.global_step)

    def on_train_end(self) -> None:
        """Log the steps since the last time, where the run was stopped before its last step."""
        if self.latest:
            self._log()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put in what a reader needs to rebuild the pipeline."""
        checkpoint[KEY] = description(self.pipeline) | {"step": self.global_step}
        checkpoint["state_dict"] = clean_names(checkpoint["state_dict"])

    def training_state(self) -> dict[str, Any]:
        """Return what this process needs beside the ``state_dict`` to go on where it is."""
        sums = None if self.bins is None else self.bins.sums
        return {"batches_seen": self.batches_seen, "bins": sums}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`training_state` was taken."""
        self.batches_seen = int(state["batches_seen"])
        self.bins = None
        if state["bins"] is not None:
            self.bins = TimeBins(self.num_bins, self.device)
            self.bins.sums.copy_(state["bins"])

    def _loss(self, pair: Pair, step: int, generator: torch.Generator) -> Loss:
        conditioner = self.pipeline.conditioner
        if conditioner is not None and pair.cond is not None:
            cond = conditioner.drop(pair.cond, generator=generator)
            pair = Pair(pair.x_0, pair.x_1, cond, pair.weight)
        return self.objective(self.pipeline.field, pair, step=step, generator=generator)

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Let processes exchange gradients only after the last micro-batch."""
        block = getattr(self.trainer.strategy, "block_backward_sync", None)
        return nullcontext() if last or block is None else block()

    def _record(self, loss: Loss) -> None:
        if self.bins is None:
            self.bins = TimeBins(self.num_bins, self.device)
        self.bins.add(loss)

    def _log(self) -> None:
        """Write the means since the last call; the only place where the device is waited for."""
        assert self.bins is not None
        self.bins.sums = self.trainer.strategy.reduce(self.bins.sums, reduce_op="sum")
        total, count = self.bins.sums.sum(dim=1).tolist()
        metrics = {"loss": total / count}
        metrics |= {name: float(value) for name, value in self.latest.items()}
        for i, mean in enumerate(self.bins.means().tolist()):
            metrics[f"loss/t{i / self.num_bins:.1f}"] = mean
        self.bins.reset()
        self.latest = {}
        self.trainer.callback_metrics["loss"] = torch.tensor(metrics["loss"])
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step)


def _chunks(pair: Pair, size: int | None) -> Iterator[tuple[Pair, bool]]:
    """Yield ``(rows of pair, whether they are the last)``."""
    if size is None or size >= len(pair):
        yield pair, True
        return
    for start in range(0, len(pair), size):
        rows = slice(start, start + size)
        yield (
            Pair(
                pair.x_0[rows],
                pair.x_1[rows],
                None if pair.cond is None else {k: v[rows] for k, v in pair.cond.items()},
                None if pair.weight is None else pair.weight[rows],
            ),
            start + size >= len(pair),
        )
