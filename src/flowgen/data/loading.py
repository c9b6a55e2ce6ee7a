"""Loaders: what batch number k holds depends on ``(seed, k, rank)`` alone.

One permutation of the whole set is drawn for each epoch, the same on every rank, and rank ``r`` of
``w`` takes its entries ``r, r + w, ...``. Batch ``k`` of a run is batch ``k % n`` of epoch
``k // n``, where an epoch has ``n`` batches, so a run goes on from any batch without
looking at the ones before it. Augmentation, and every global random generator while a batch is
fetched, is seeded by the number of the batch: the number of worker processes changes nothing.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, get_worker_info

from flowgen.core import InputError, generator_for
from flowgen.data.protocol import Batch, Split


@runtime_checkable
class Augmented(Protocol):
    """A split whose augmentation can be restarted.

    A split without any may say so by ``fixed = True``: its batches are then fetched with no seed.
    """

    def seed_augmentation(self, *entropy: int) -> None:
        """Restart the augmentation from ``entropy``."""
        ...


class Numbered(NamedTuple):
    """Which batch of the run it is, from 0, and the indices of its samples."""

    number: int
    indices: list[int]


class EpochSampler(Sampler[int]):
    """Indices of one rank, in an order that depends on ``(seed, epoch)`` alone.

    Args:
        size: Number of samples of the whole set, >= 1.
        shuffle: Draw a new permutation for each epoch; else keep the order.
        seed: Non-negative.
        rank: Of this process, ``0 .. world_size - 1``.
        world_size: Number of processes, >= 1.
        drop_last: Whether ranks get ``size // world_size`` samples each, or that rounded up, with
            samples from the start repeated.

    Raises:
        InputError: If an argument is out of range.
    """

    def __init__(
        self,
        size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if size < 1:
            raise InputError(f"size must be >= 1, got {size}")
        if world_size < 1 or not 0 <= rank < world_size:
            raise InputError(f"rank must lie in 0..world_size - 1, got {rank} of {world_size}")
        if seed < 0:
            raise InputError(f"seed must be >= 0, got {seed}")
        self.size = size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of indices of this rank."""
        full, rest = divmod(self.size, self.world_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this rank for the epoch that was set."""
        yield from self.order(self.epoch)

    def order(self, epoch: int) -> list[int]:
        """Return the indices of this rank in the order of an epoch."""
        if self.shuffle:
            order = torch.randperm(self.size, generator=generator_for(self.seed, epoch))
        else:
            order = torch.arange(self.size)
        places = torch.arange(len(self)) * self.world_size + self.rank
        return order[places % self.size].tolist()


class Batches(Sampler[Numbered]):
    """Numbered batches of one rank: of one epoch, or of all epochs from a given batch on.

    Args:
        sampler: The order of the samples; its ``drop_last`` is that of the batches too.
        batch_size: Samples of a batch on this rank, >= 1.
        start: Number of the first batch of an endless stream, or None for one epoch: the one that
            ``set_epoch`` has chosen.

    Raises:
        InputError: If a number is out of range, or no full batch can be made.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, *, start: int | None = None) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be >= 1, got {batch_size}")
        if start is not None and start < 0:
            raise InputError(f"start must be >= 0, got {start}")
        if sampler.drop_last and len(sampler) < batch_size:
            world = sampler.world_size
            share = f" ({len(sampler)} for each of {world} processes)" if world > 1 else ""
            raise InputError(
                f"batch_size {batch_size} is larger than the {sampler.size} samples of the "
                f"set{share}: use a batch_size of at most {len(sampler)}"
            )
        self.order = sampler
        self.batch_size = batch_size
        self.start = start

    @property
    def per_epoch(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(len(self.order), self.batch_size)
        return full + (rest > 0 and not self.order.drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, where there is an end to it."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        """Return the number of batches of an epoch.

        Raises:
            TypeError: If there is no end.
        """
        if self.start is not None:
            raise TypeError("an endless stream of batches has no length")
        return self.per_epoch

    def __iter__(self) -> Iterator[Numbered]:
        """Yield the batches of the epoch that was set, or all from ``start`` on."""
        if self.start is None:
            yield from self._epoch(self.order.epoch, 0)
            return
        epoch, place = divmod(self.start, self.per_epoch)
        yield from self._epoch(epoch, place)
        for later in count(epoch + 1):
            yield from self._epoch(later, 0)

    def _epoch(self, epoch: int, first: int) -> Iterator[Numbered]:
        order = self.order.order(epoch)
        for place in range(first, self.per_epoch):
            rows = order[place * self.batch_size : (place + 1) * self.batch_size]
            yield Numbered(epoch * self.per_epoch + place, rows)


def loader(
    dataset: Split,
    *,
    batch_size: int,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Batch]:
    """Return a loader of the collated batches of one epoch, for a loop of your own.

    Choose the epoch by ``loader.batch_sampler.set_epoch(epoch)`` before each iteration (Lightning
    does not know this sampler; :func:`stream` needs no epochs). The batches are the same for any
    ``num_workers``, and with several processes for each ``rank``.

    Args:
        dataset: A split of a data set.
        batch_size: Samples of a batch on this rank, >= 1.
        shuffle: Draw a new order for each epoch.
        drop_last: Give only full batches, equally many on every rank (training).
        num_workers: Processes that prepare batches, 0 for none; they live as long as the loader.
        seed: Of the order and of the augmentation, non-negative.
        rank: Of this process.
        world_size: Number of processes.

    Raises:
        InputError: If a number is out of range, the set is empty, or no full batch can be made.
    """
    sampler = EpochSampler(
        len(dataset),
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
    )
    return _loader(dataset, Batches(sampler, batch_size), num_workers)


def stream(
    dataset: Split,
    *,
    batch_size: int,
    num_workers: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
) -> DataLoader[Batch]:
    """Return a loader that never ends: shuffled full batches, epoch after epoch, from ``start`` on.

    The stream from batch 100 is the stream from batch 0 without its first hundred, augmentation
    included, so that a run is resumed by the number of batches it has seen. With Lightning set
    ``max_epochs=-1`` and ``use_distributed_sampler=False``; ``max_steps`` ends it.

    Args:
        dataset: A split of a data set.
        batch_size: Samples of a batch on this rank, >= 1.
        num_workers: Processes that prepare batches, 0 for none.
        seed: Of the order and of the augmentation, non-negative.
        rank: Of this process.
        world_size: Number of processes.
        start: Number of the first batch, >= 0.

    Raises:
        InputError: If a number is out of range, the set is empty, or no full batch can be made.
    """
    sampler = EpochSampler(
        len(dataset), seed=seed, rank=rank, world_size=world_size, drop_last=True
    )
    return _loader(dataset, Batches(sampler, batch_size, start=start), num_workers)


def _loader(dataset: Split, batches: Batches, num_workers: int) -> DataLoader[Batch]:
    if num_workers < 0:
        raise InputError(f"num_workers must be >= 0, got {num_workers}")
    seed, rank = batches.order.seed, batches.order.rank
    return _Loader(
        _Fetcher(dataset, seed, rank),  # pyright: ignore[reportArgumentType]  # fetches batches
        batch_sampler=batches,  # pyright: ignore[reportArgumentType]  # numbers beside indices
        num_workers=num_workers,
        collate_fn=_as_is,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        generator=generator_for(seed, rank),
    )


class _Loader(DataLoader[Batch]):
    """Without workers the batches are fetched here and now, without the bookkeeping of torch's."""

    def __iter__(self) -> Any:
        """Yield the collated batches of ``batch_sampler``."""
        if self.num_workers or self.pin_memory:
            return super().__iter__()
        # Of this file: a fetcher of whole batches, and their order.
        fetch: Any = self.dataset
        order: Any = self.batch_sampler
        return map(fetch.__getitems__, order)


def _as_is(batch: Any) -> Any:
    """Return the batch, which ``__getitems__`` has collated."""
    return batch


@dataclass(frozen=True)
class _Fetcher:
    """Fetches numbered batches of a data set, every draw on the way seeded by their number."""

    dataset: Split
    seed: int
    rank: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, batch: Sequence[Any]) -> Batch:
        number, indices = batch
        # Three generators of the process take longer to keep and restore than points to fetch.
        if getattr(self.dataset, "fixed", False):
            return self.dataset.__getitems__(indices)
        entropy = (self.seed, number, self.rank)
        if isinstance(self.dataset, Augmented):
            self.dataset.seed_augmentation(*entropy)
        with _global_seed(*entropy):
            return self.dataset.__getitems__(indices)


@contextmanager
def _global_seed(*entropy: int) -> Iterator[None]:
    """Seed the global generators, for augmentations of the user's that draw from them.

    In the training process they are put back, so that dropout draws the same for any number of
    workers; a worker has nothing else to draw.
    """
    state = None
    if get_worker_info() is None:
        state = (torch.get_rng_state(), random.getstate(), np.random.get_state())  # noqa: NPY002
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(seed >> 1)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the user's code may draw from it
    try:
        yield
    finally:
        if state is not None:
            torch.set_rng_state(state[0])
            random.setstate(state[1])
            np.random.set_state(state[2])  # noqa: NPY002
