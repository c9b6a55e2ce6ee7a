"""From batches of data to coupled pairs, apart from the model and ahead of it.

Encoding, noise and coupling need no weights, so the pairs of the next batches are made while the
model learns from those of this one: on the CPU in a process of its own; beside an accelerator, or
where several processes train together, in a thread. Several batches may be paired together, which
makes the transport better without a larger step of the optimiser, and the batches of all processes
may be, so that many devices pair as one would.

What batch number k of a run holds follows from ``(seed, k, rank)`` and the state that the coupling
carries from group to group. That state travels with every batch, so a checkpoint holds the one to
go on with, however far the pairing is ahead.
"""

import copy
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flowgen.core import InputError, Pair, generator_for
from flowgen.couplings import Independent
from flowgen.training.forked import can_fork, forked
from flowgen.training.processes import Processes

if TYPE_CHECKING:
    from flowgen.data import Batches
    from flowgen.training.module import FlowModule

_STREAM = 2
"""Tells the draws of the pairing from those of the step, which have the same numbers."""


@dataclass(frozen=True)
class Paired:
    """The pairs of one batch.

    Args:
        pair: Coupled, in the model's space, on its device.
        state: Of the coupling, to go on with the next batch; None if it keeps none.
        seconds: Spent on encoding, noise and coupling.
        waited: Whether the model waited for it.
    """

    pair: Pair
    state: Mapping[str, Any] | None = None
    seconds: float = 0.0
    waited: bool = True

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pair)


@dataclass
class PairLoader:
    """Iterates over :class:`Paired`, from whatever batch the run is at.

    Args:
        module: Whose pipeline and coupling make the pairs.
        loader: Batches of data of this process, from ``loader.batch_sampler.start`` on.
        batches: Batches that are paired together, >= 1.
        ahead: Groups of batches prepared while the model learns, >= 0; independent pairs are made
            at once in any case.
        all_processes: Pair the rows of all processes together, as one process would.

    Raises:
        InputError: If a number is out of range.
    """

    module: "FlowModule"
    loader: Any
    batches: int = 1
    ahead: int = 1
    all_processes: bool = False
    _processes: Processes | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.batches < 1:
            raise InputError(f"pairing.batches must be >= 1, got {self.batches}")
        if self.ahead < 0:
            raise InputError(f"pairing.ahead must be >= 0, got {self.ahead}")

    @property
    def batch_sampler(self) -> "Batches":
        """The order of the data; its ``start`` is the first batch."""
        return self.loader.batch_sampler

    @property
    def _in_background(self) -> bool:
        # Handing over independent pairs takes longer than making them.
        return self.ahead > 0 and type(self.module.coupling) is not Independent

    def __iter__(self) -> Iterator[Paired]:
        """Yield the pairs of every batch, in order, whatever is prepared ahead."""
        first = self.batch_sampler.start or 0
        done = first % self.batches
        # A group is paired as a whole, also where the run goes on in the middle of it.
        self.batch_sampler.start = first - done
        if self.all_processes and self._processes is None:
            self._processes = Processes(self.module.trainer)
        yield from islice(self._pairs(first - done), done, None)

    def _pairs(self, number: int) -> Iterator[Paired]:
        if not self._in_background:
            made = self._made(number)
        elif self.module.device.type == "cpu" and self._processes is None and can_fork():
            made = forked(lambda: self._made(number), self.ahead)
        else:
            made = self._in_thread(number)
        for group in made:
            yield from group

    def _made(self, number: int) -> Iterator[list[Paired]]:
        for first, group in self._groups(number):
            yield self.paired(group, first)

    def _in_thread(self, number: int) -> Iterator[list[Paired]]:
        # One thread: the state of the coupling goes from group to group.
        with ThreadPoolExecutor(1, thread_name_prefix="pairing") as thread:
            waiting: deque[Future[list[Paired]]] = deque()
            for first, group in self._groups(number):
                waiting.append(thread.submit(self.paired, group, first))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _groups(self, number: int) -> Iterator[tuple[int, Sequence[Mapping[str, Tensor]]]]:
        """Yield the batches that are paired together, and the number of the first of them.

        Never by a thread beside the one that trains: fetching seeds the global random generators,
        and processes must talk in one order.
        """
        batches: Iterable[Mapping[str, Tensor]] = iter(self.loader)
        while group := list(islice(batches, self.batches)):
            if self._processes is not None:
                group = [self._processes.rows_of_all(batch) for batch in group]
            yield number, group
            number += len(group)

    @torch.no_grad()
    def paired(self, group: Sequence[Mapping[str, Tensor]], number: int) -> list[Paired]:
        """Return the pairs of batches that are coupled together.

        Args:
            group: The batches, of all processes if they are paired so.
            number: Of the first batch in the run.
        """
        start = time.perf_counter()
        module, shared = self.module, self._processes
        rank = module.global_rank if shared is None else 0
        before = state_of(module.coupling)
        generator = generator_for(module.seed, number, rank, _STREAM, device=module.device)
        whole = group[0]
        if len(group) > 1:
            whole = {name: torch.cat([each[name] for each in group]) for name in whole}
        moved = {name: value.to(module.device) for name, value in whole.items()}
        pair = module.pair(moved, generator)
        sizes = [len(batch["x_1"]) for batch in group]
        parts = []
        for i, rows in enumerate(_rows(sizes)):
            mine = rows if shared is None else rows[module.global_rank :: shared.count]
            last = i + 1 == len(sizes)
            # In the middle of a group the run goes on by pairing the group again.
            parts.append((_taken(pair, mine), state_of(module.coupling) if last else before))
        seconds = (time.perf_counter() - start) / len(group)
        return [Paired(part, state, seconds, not self._in_background) for part, state in parts]


def paired_alone(module: "FlowModule", batch: Mapping[str, Tensor], number: int) -> Paired:
    """Return the pairs of a batch of a plain loader, which has been moved to the device."""
    start = time.perf_counter()
    generator = generator_for(
        module.seed, number, module.global_rank, _STREAM, device=module.device
    )
    with torch.no_grad():
        pair = module.pair(batch, generator)
    return Paired(pair, state_of(module.coupling), time.perf_counter() - start)


def _rows(sizes: list[int]) -> Iterator[range]:
    start = 0
    for size in sizes:
        yield range(start, start + size)
        start += size


def _taken(pair: Pair, rows: range) -> Pair:
    if len(rows) == len(pair):
        return pair
    place = slice(rows.start, rows.stop, rows.step)
    return Pair(
        pair.x_0[place],
        pair.x_1[place],
        None if pair.cond is None else {name: value[place] for name, value in pair.cond.items()},
        None if pair.weight is None else pair.weight[place],
        pair.stats,
    )


def state_of(coupling: Any) -> Mapping[str, Any] | None:
    """Return a copy of what the coupling carries from batch to batch, None for nothing."""
    return copy.deepcopy(coupling.state_dict()) if hasattr(coupling, "state_dict") else None
