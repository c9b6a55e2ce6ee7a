"""The steps of a critic that learns beside the student, in turns with it.

After each optimiser step of the student the critic takes a few of its own, on the data and
conditions of the same batch and on fresh noise. One such round is one step of the run: the critic's
optimiser is none of Lightning's, which would count its steps as well. Gradients are averaged over
processes here; the critic's parameters ask for them only inside, so the wrapper for data-parallel
training has never heard of them. A batch that is skipped for the student is skipped for the critic.
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from flowgen.core import (
    InputError,
    Loss,
    Objective,
    Pair,
    TrainingFailedError,
    VelocityField,
    generator_for,
    network_randomness,
)
from flowgen.training.finite import FiniteGuard
from flowgen.training.micro_batches import chunks

if TYPE_CHECKING:
    from flowgen.training.module import FlowModule

_STREAM = 2  # apart from the student's randomness of the same batch, and from its dropout


@runtime_checkable
class WithCritic(Protocol):
    """An objective beside whose model a critic learns: the module ``critic``, one of its own.

    The parameters of the critic ask for no gradient.

    Attributes:
        critic_optimizer: From its parameters to their optimiser.
        critic_steps: Its steps for each step of the model.
    """

    critic_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    critic_steps: int

    def critic_loss(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the unreduced loss of the critic."""
        ...


class CriticTraining:
    """Trains the critic of an objective.

    Args:
        objective: That has one.
        critic: What it has.
        patience: Steps of the critic in a row that may be skipped for a loss or gradient that is
            not finite.
    """

    def __init__(self, objective: WithCritic, critic: nn.Module, patience: int) -> None:
        self.objective = objective
        self.parameters = list(critic.parameters())
        self.optimizer = objective.critic_optimizer(self.parameters)
        self.guard = FiniteGuard(patience)

    def rehearse(self, field: VelocityField, pair: Pair, generator: torch.Generator) -> None:
        """Find the critic's loss without learning, to see that all parts fit."""
        with torch.no_grad():
            self.objective.critic_loss(field, pair, generator=generator)

    def update(self, module: "FlowModule", pair: Pair, step: int) -> dict[str, Tensor]:
        """Take the critic's steps of a batch and return what the log says of the last one.

        Args:
            module: Whose student is matched, after its own step.
            pair: Of the batch.
            step: Optimiser steps of the student before this batch.

        Raises:
            TrainingFailedError: If too many steps in a row were skipped.
        """
        found: dict[str, Tensor] = {}
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        try:
            for number in range(self.objective.critic_steps):
                found = self._step(module, pair, step, number)
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(False)
                parameter.grad = None
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state of optimiser and guard; the weights are in that of the module."""
        return {"optimizer": self.optimizer.state_dict(), "guard": self.guard.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.guard.load(state["guard"])

    def _step(self, module: "FlowModule", pair: Pair, step: int, number: int) -> dict[str, Tensor]:
        entropy = (module.seed, module.batches_seen, module.global_rank, _STREAM + number)
        generator = generator_for(*entropy, device=module.device)
        pair = module.dropped(pair, generator)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=module.device)
        losses: list[Loss] = []
        with network_randomness(*entropy, device=module.device):
            for chunk, _ in chunks(pair, module.micro_batch):
                loss = self.objective.critic_loss(
                    module.pipeline.field, chunk, step=step, generator=generator
                )
                share = loss.total() * (len(chunk) / len(pair))
                share.backward()
                losses.append(loss.detached())
                total = total + share.detach()
        self._average(module)
        norm = clip_grad_norm_(self.parameters, module.clip)
        if self.guard.takes(norm, total, module.over_all):
            self.optimizer.step()
        else:
            self._tell(step)
        terms = {
            f"loss/critic_{name}": torch.cat([each.terms[name].flatten() for each in losses]).mean()
            for name in losses[0].terms
        }
        return {"loss/critic": total, "grad_norm/critic": norm} | terms

    def _average(self, module: "FlowModule") -> None:
        """Make each gradient the mean over all processes, in one message."""
        if module.trainer.world_size == 1:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        mean = cast("Tensor", module.trainer.strategy.reduce(flat, reduce_op="mean"))
        parts = mean.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _tell(self, step: int) -> None:
        if self.guard.exhausted:
            raise TrainingFailedError(
                f"{self.guard.in_a_row} steps of the critic in a row had a loss or gradient that "
                f"is not finite, at step {step}: lower the learning rate of critic_optimizer"
            )
        if self.guard.in_a_row == 1:
            logging.getLogger(__name__).warning(
                "a step of the critic skipped at step %d: its loss or gradient is not finite "
                "(%d skipped so far)",
                step,
                self.guard.skipped,
            )


def critic_of(objective: Objective, patience: int) -> CriticTraining | None:
    """Return what trains the critic of an objective or of one of its parts; None without one.

    Raises:
        InputError: If several parts have one.
    """
    parts = list(objective.modules()) if isinstance(objective, nn.Module) else []
    found = [part for part in parts if isinstance(part, WithCritic)]
    if len(found) > 1:
        raise InputError(f"one part of an objective may have a critic, {len(found)} have one")
    return CriticTraining(found[0], found[0].get_submodule("critic"), patience) if found else None
