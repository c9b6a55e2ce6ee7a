"""The one LightningModule. It names no method: the objects it is given decide what is learnt.

A batch goes codec -> source -> coupling -> condition dropout -> objective -> ``Loss.total()``; the
part up to the coupling may be done ahead (:mod:`flowgen.training.pairing`). The model may see the
pairs in micro-batches, whose gradients add up to those of the whole batch. Noise, times and dropout
of conditions come from generators seeded by ``(seed, batch, rank)``, so a step is the same whenever
it is taken. Batches are counted apart from steps: a step that is skipped has used up its batch.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from flowgen.core import (
    Coupling,
    Follows,
    InputError,
    Loss,
    Objective,
    Pair,
    Prepared,
    Unconditional,
    generator_for,
    network_randomness,
)
from flowgen.pipeline import Pipeline, description
from flowgen.pipeline.checkpoint import KEY, clean_names
from flowgen.training.critic import critic_of
from flowgen.training.ema import EMA
from flowgen.training.failure import fail
from flowgen.training.finite import FiniteGuard
from flowgen.training.loggers import resume_at
from flowgen.training.micro_batches import chunks
from flowgen.training.one_graph import COMPARED, OneGraph
from flowgen.training.optimization import Optimization
from flowgen.training.pairing import Paired, paired_alone, state_of
from flowgen.training.phases import Phases, clock_for
from flowgen.training.sharding import Sharding
from flowgen.training.step_log import StepLog
from flowgen.training.stretches import LONGEST, Upcoming, last_of_call


class FlowModule(LightningModule):
    """Trains the field of a pipeline.

    Args:
        pipeline: Whose field is trained; its config travels in every checkpoint.
        objective: Returns the loss of a batch of pairs.
        coupling: Decides which source sample meets which data sample. What it carries from batch to
            batch is its own ``state_dict()``, kept with every checkpoint.
        optimizer: From parameters to an optimiser, e.g. a partial ``AdamW``.
        lr_schedule: From the optimiser to its schedule, stepped once an optimiser step.
        ema_decay: Largest decay of the averaged weights.
        clip: Largest norm of the gradient; infinite for none.
        micro_batch: Most rows that pass through the model at once, or None for all.
        seed: Of noise, times and dropout of conditions.
        num_bins: Time bins of the logged loss.
        max_skipped: Steps in a row that may be skipped for a loss or gradient that is not finite.
        nonfinite: Folder for the batch that ended the run; None keeps none.

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
        max_skipped: int = 20,
        nonfinite: str | Path | None = None,
    ) -> None:
        super().__init__()
        if pipeline.conditioner is not None and not coupling.condition_safe:
            raise InputError(
                f"{type(coupling).__name__} with a label-conditional model makes the noise depend "
                "on the label, which sampling does not know: conditional samples come out "
                "skewed. Use coupling=class_assignment, coupling=condition_assignment or "
                "conditional=false"
            )
        if not clip > 0:
            raise InputError(f"clip must be > 0 (inf for none), got {clip}")
        if micro_batch is not None and micro_batch < 1:
            raise InputError(f"micro_batch must be >= 1, got {micro_batch}")
        self.automatic_optimization = False
        self.pipeline = pipeline
        self.objective = objective
        self.one_graph: OneGraph | None = None
        if isinstance(objective, Prepared):
            objective.begin(pipeline.field)
        conditioner = pipeline.conditioner
        for part in objective.modules() if isinstance(objective, nn.Module) else [objective]:
            if isinstance(part, Unconditional):
                part.use_null(None if conditioner is None else conditioner.null)
        # Not a submodule: its state goes with the pairs, which may be made ahead of the model.
        self._coupling = (coupling,)
        self.ema = EMA(pipeline.field, decay=ema_decay)
        self.make_optimizer = optimizer
        self.make_lr_schedule = lr_schedule
        self.clip = clip
        self.micro_batch = micro_batch
        self.seed = seed
        self.step_log = StepLog(num_bins)
        self.phases: Phases | None = None
        self.optimization: Optimization | None = None
        self.guard = FiniteGuard(max_skipped)
        self.critic = critic_of(objective, max_skipped)
        self.nonfinite = None if nonfinite is None else Path(nonfinite)
        self.sharding: Sharding | None = None
        self.batches_seen = 0
        self.coupling_state: Mapping[str, Any] | None = None
        # Inside a step weights, optimiser and counters do not belong together.
        self.stepping = False

    @property
    def coupling(self) -> Coupling:
        """Decides which source sample meets which data sample."""
        return self._coupling[0]

    def averaged(self) -> Pipeline:
        """Return the pipeline with the averaged weights.

        Where weights lie in shards these are gathered into a copy, and every process must call it.
        """
        return self.pipeline.with_field(self.whole(self.ema.field))

    def whole(self, field: nn.Module) -> nn.Module:
        """Return a field of this module with whole weights: a copy if its own lie in shards."""
        return field if self.sharding is None else self.sharding.whole(field)

    def rehearse(self, batch: Mapping[str, Tensor]) -> None:
        """Take a batch through coupling and objective without learning, to see that all parts fit.

        The coupling is left in the state it was in; the objective sees two of the pairs.

        Args:
            batch: As many rows as are paired together, on the device of the module.

        Raises:
            InputError: If a part cannot treat what another gives it.
        """
        generator = generator_for(self.seed, device=self.device)
        before = state_of(self.coupling)
        with torch.no_grad():
            pair = self.dropped(self.pair(batch, generator), generator)
            few, _ = next(chunks(pair, 2))
            self.objective(self.pipeline.field, few, generator=generator)
            if self.critic is not None:
                self.critic.rehearse(self.pipeline.field, few, generator)
        if before is not None:
            self.coupling.load_state_dict(before)  # pyright: ignore[reportAttributeAccessIssue]

    def use_one_graph(self, batch: Mapping[str, Tensor], size: int) -> None:
        """Compute loss and gradient by one compiled graph from now on; on a CPU, in one process.

        Args:
            batch: As many rows as are paired together; two batches are computed to see that all
                fits. The coupling is left in the state it was in.
            size: Rows of a step.

        Raises:
            InputError: If the objective does not compute the same at every step, or cannot be
                written down as a graph.
        """
        one_graph = OneGraph(self.objective, self.pipeline.field)
        before = state_of(self.coupling)
        for number in range(COMPARED):
            generator = generator_for(self.seed, number)
            with torch.no_grad():
                pair = self.dropped(self.pair(batch, generator), generator)
            few, _ = next(chunks(pair, size))
            one_graph(self.pipeline.field, few, generator=generator)
        for parameter in self.learnt():
            parameter.grad = None
        if before is not None:
            self.coupling.load_state_dict(before)  # pyright: ignore[reportAttributeAccessIssue]
        self.one_graph = one_graph

    def learnt(self) -> list[nn.Parameter]:
        """Return what the optimiser changes: the field, and what the objective learns beside it."""
        objective = self.objective if isinstance(self.objective, nn.Module) else nn.Module()
        own = [p for p in objective.parameters() if p.requires_grad]
        return [*self.pipeline.field.parameters(), *own]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser and its schedule."""
        optimizer = self.make_optimizer(self.learnt())
        return {"optimizer": optimizer, "lr_scheduler": self.make_lr_schedule(optimizer)}

    def pair(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Pair:
        """Return the coupled pairs of a batch ``{"x_1": (b, *d), "label": (b,)}``, in model space.

        Conditions are those that the pipeline's conditioner takes from the batch. Data may bring
        their own ``x_0``; otherwise the source is sampled.
        """
        x_1 = self.pipeline.codec.encode(batch["x_1"])
        x_0 = batch.get("x_0")
        if x_0 is None:
            x_0 = self.pipeline.source.sample(len(x_1), generator=generator, device=x_1.device)
        conditioner = self.pipeline.conditioner
        cond = None if conditioner is None else conditioner.take(batch)
        return self.coupling(Pair(x_0, x_1, cond), generator=generator)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch of data; pairs are where they belong already."""
        if isinstance(batch, Paired | Upcoming):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def training_step(
        self, batch: Upcoming | Paired | Mapping[str, Tensor], batch_idx: int
    ) -> None:
        """Take an optimiser step on a batch, or several on those that come next.

        Raises:
            TrainingFailedError: If too many steps in a row were skipped.
        """
        del batch_idx
        if not isinstance(batch, Upcoming):
            self.learn(batch)
            return
        last, end = last_of_call(self.trainer), time.perf_counter() + LONGEST
        while (pairs := batch.take()) is not None:
            self.learn(pairs)
            if self.global_step >= last or time.perf_counter() > end:
                return

    def learn(self, batch: Paired | Mapping[str, Tensor]) -> None:
        """Take one optimiser step on the share of the global batch that is this process's.

        A batch of a plain loader is paired here and now. A step whose loss or gradient is not
        finite is skipped: weights, average, optimiser and schedule stay as they are, and only the
        batch is counted.

        Raises:
            TrainingFailedError: If too many steps in a row were skipped.
        """
        self.stepping = True
        if self.phases is None or self.optimization is None:
            self.phases = Phases(clock_for(self.device))
            self.optimization = Optimization(self)
        phases, optimization = self.phases, self.optimization
        phases.begin()
        step = self.global_step
        optimization.zero_grad()
        if not isinstance(batch, Paired):
            batch = paired_alone(self, batch, self.batches_seen)
        phases.add("coupling", batch.seconds, waited=batch.waited)
        pair = batch.pair
        losses: list[Loss] = []
        shares: list[Tensor] = []
        for loss, share, last in self.passes(pair, phases, step, self.one_graph):
            if self.one_graph is None:
                with phases.phase("backward"):
                    optimization.backward(share, last)
            losses.append(loss.detached())
            shares.append(share.detach())
        total = shares[0] if len(shares) == 1 else torch.stack(shares).sum()
        with phases.phase("optimizer"):
            norm = optimization.clip(self.clip)
            taken = self.guard.takes(norm, total, self.over_all)
            if taken:
                self._update(optimization, norm, step, losses, pair)
        if taken and self.critic is not None:
            with phases.phase("critic"):
                self.step_log.latest |= self.critic.update(self, pair, step)
        self.batches_seen += 1
        self.coupling_state = batch.state
        phases.end(len(pair) * self.trainer.world_size)
        if taken:
            every = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
            if (step + 1) % every == 0 or step + 1 == self.trainer.max_steps:
                self._log()
        else:
            self._tell_skipped(pair, step)
        # Not before the row of the log is written: a signal may end the run right after this.
        self.stepping = False

    def passes(
        self, pair: Pair, phases: Phases, step: int, one_graph: OneGraph | None = None
    ) -> Iterator[tuple[Loss, Tensor, bool]]:
        """Yield the loss of each micro-batch, its share of the batch's mean, and whether it ends.

        All randomness follows from ``(seed, number of the batch, rank)``, that of the network's own
        dropout included, so a batch can be repeated exactly.

        Args:
            pair: The coupled pairs of the batch.
            phases: Is told how long the forward passes took.
            step: Optimiser steps taken before.
            one_graph: Computes the objective in its place.
        """
        objective = one_graph or self.objective
        entropy = (self.seed, self.batches_seen, self.global_rank)
        generator = generator_for(*entropy, device=self.device)
        # Labels are dropped before the batch is split, so that micro-batches change nothing.
        pair = self.dropped(pair, generator)
        with network_randomness(*entropy, device=self.device):
            for chunk, last in chunks(pair, self.micro_batch):
                with phases.phase("forward"):
                    loss = objective(self.pipeline.field, chunk, step=step, generator=generator)
                    share = loss.total()
                    if chunk is not pair:
                        share = share * (len(chunk) / len(pair))
                yield loss, share, last

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Start to wait for data once all callbacks are done."""
        del outputs, batch, batch_idx
        if self.phases is not None:
            self.phases.rest()

    def on_train_start(self) -> None:
        """Tell the loggers where the run starts, so that a resumed curve has no step twice."""
        self.optimization = None
        resume_at(self.loggers, self.global_step)

    def on_train_end(self) -> None:
        """Log the steps since the last time, where the run was stopped before its last step."""
        if self.step_log.latest:
            self._log()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put in what a reader needs to rebuild the pipeline."""
        checkpoint[KEY] = description(self.pipeline) | {"step": self.global_step}
        checkpoint["state_dict"] = clean_names(checkpoint["state_dict"])

    def training_state(self) -> dict[str, Any]:
        """Return what this process needs beside the ``state_dict`` to go on where it is."""
        return {
            "batches_seen": self.batches_seen,
            "coupling": self.coupling_state,
            "bins": self.step_log.state(),
            "guard": self.guard.state(),
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`training_state` was taken."""
        self.batches_seen = int(state["batches_seen"])
        self.coupling_state = state.get("coupling")
        if self.coupling_state is not None:
            self.coupling.load_state_dict(self.coupling_state)  # pyright: ignore[reportAttributeAccessIssue]
        self.guard.load(state.get("guard", {"skipped": 0, "in_a_row": 0}))
        self.step_log.load(state["bins"], self.device)

    def dropped(self, pair: Pair, generator: torch.Generator) -> Pair:
        """Return the pairs with the conditions of some rows emptied, for guidance."""
        conditioner = self.pipeline.conditioner
        if conditioner is None or pair.cond is None:
            return pair
        return replace(pair, cond=conditioner.drop(pair.cond, generator=generator))

    def _update(
        self, optimization: Optimization, norm: Tensor, step: int, losses: list[Loss], pair: Pair
    ) -> None:
        optimization.step()
        self.ema.update(self.pipeline.field, step + 1)
        if optimization.followed and isinstance(self.objective, Follows):
            self.objective.after_step(self.pipeline.field, step + 1)
        figures = dict(pair.stats) | {"grad_norm": norm, "lr": optimization.rate}
        self.step_log.add(losses, figures)

    def over_all(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.trainer.world_size == 1:
            return x
        return self.trainer.strategy.reduce(x, reduce_op="sum")  # pyright: ignore[reportReturnType]

    def _tell_skipped(self, pair: Pair, step: int) -> None:
        if self.guard.exhausted:
            if self.step_log.latest:
                self._log()
            fail(self, pair, step)
        if self.guard.in_a_row == 1:
            logging.getLogger(__name__).warning(
                "step %d skipped: its loss or gradient is not finite (%d skipped so far)",
                step,
                self.guard.skipped,
            )

    def _log(self) -> None:
        """Write the means since the last call."""
        assert self.phases is not None
        metrics = self.step_log.row(self.over_all)
        metrics["skipped"] = self.guard.skipped
        times = self.phases.read()
        metrics |= times
        if times:
            # Of the whole pairing, hidden or not: what the step waits for it is part of ms/data.
            metrics["coupling/share"] = times["ms/coupling"] / times["ms/step"]
        self.trainer.callback_metrics["loss"] = torch.tensor(metrics["loss"])
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step)
