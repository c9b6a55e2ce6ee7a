"""Several optimiser steps in one call of Lightning's loop.

Around each call Lightning runs its hooks, counts and profiles, a good part of the step of a tiny
network. So the module goes on with the next batches in the same call until a callback is due, at
the latest after a tenth of a second: a large network takes one step, a tiny one takes many, and no
result depends on how many. A callback that does not say when it is due is called after every step,
as Lightning promises.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy

from flowgen.training.pairing import Paired, PairLoader

LONGEST = 0.1
"""Seconds after which a call begins no further step."""

_PRECISIONS = (Precision, MixedPrecision)
"""Precisions that change the network only, and no gradient: float16 is none of flowgen's."""

_AROUND = ("on_train_batch_start", "on_train_batch_end")
_INSIDE = (
    *("on_before_zero_grad", "on_before_backward", "on_after_backward"),
    "on_before_optimizer_step",
)
"""Hooks of callbacks around a step and inside it."""


@runtime_checkable
class Due(Protocol):
    """A callback that need not be called after every step."""

    def next_due(self, step: int) -> int | None:
        """Return the first step after ``step`` that it must be called after; None if any will do.

        It is called after others as well, so it looks at the number of the step as always.
        """
        ...


def multiple_after(step: int, *every: int | None) -> int | None:
    """Return the first multiple after ``step`` of one of the numbers, None if there is none."""
    return min((step - step % each + each for each in every if each is not None), default=None)


def last_of_call(trainer: Trainer) -> int:
    """Return the step that a call ends with which begins now, at the latest."""
    step: int = trainer.global_step
    last = trainer.max_steps if trainer.max_steps > 0 else step + 1
    # Processes talk to each other in callbacks, so all must call them after the same steps.
    alone = trainer.world_size == 1
    counted = trainer.num_training_batches != float("inf")
    if not alone or counted or type(trainer.precision_plugin) not in _PRECISIONS:
        return step + 1
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, Due):
            due = callback.next_due(step)
            last = last if due is None else min(last, due)
        elif _has(callback, *_AROUND):
            return step + 1
    return last


def plain(trainer: Trainer) -> bool:
    """Return whether a backward pass and an optimiser step are torch's own, with no hook beside."""
    module = type(trainer.lightning_module)
    own = ("backward", "optimizer_step", *_INSIDE)
    return (
        all(getattr(module, name) is getattr(LightningModule, name) for name in own)
        and type(trainer.strategy) is SingleDeviceStrategy
        and type(trainer.precision_plugin) in _PRECISIONS
        and type(trainer.profiler) is PassThroughProfiler  # pyright: ignore[reportAttributeAccessIssue]
        and not any(_has(each, *_INSIDE) for each in trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
    )


def _has(callback: Callback, *hooks: str) -> bool:
    return any(getattr(type(callback), name) is not getattr(Callback, name) for name in hooks)


class Upcoming:
    """The pairs of the batches that come next, in order.

    Args:
        pairs: Of all of them.
        device: Of the module, whose automatic precision is none of the pairing's.
    """

    def __init__(self, pairs: Iterator[Paired], device: torch.device) -> None:
        self._pairs = pairs
        self._device = device.type
        self._fetched: deque[Paired] = deque()

    def fetch(self) -> bool:
        """See that one is waiting; return whether there is any."""
        if not self._fetched:
            self._fetched.extend([found] if (found := next(self._pairs, None)) else [])
        return bool(self._fetched)

    def take(self) -> Paired | None:
        """Return the next, None after the last."""
        with torch.autocast(self._device, enabled=False):
            return self._fetched.popleft() if self.fetch() else None


class Stretches:
    """A loader for Lightning: what it yields for each call are all batches to come.

    Args:
        loader: Of the pairs.
    """

    def __init__(self, loader: PairLoader) -> None:
        self.loader = loader

    @property
    def batch_sampler(self) -> Any:
        """The order of the data; its ``start`` is the first batch."""
        return self.loader.batch_sampler

    def __iter__(self) -> Iterator[Upcoming]:
        """Yield the same object for every call; the first batch of a call is fetched before it."""
        upcoming = Upcoming(iter(self.loader), self.loader.module.device)
        while upcoming.fetch():
            yield upcoming
