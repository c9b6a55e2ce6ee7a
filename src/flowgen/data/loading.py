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
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from flowgen.core import InputError, generator_for
from flowgen.data.order import Batches, EpochSampler
from flowgen.data.protocol import Batch, Split


@runtime_checkable
class Augmented(Protocol):
    """A split whose augmentation can be restarted.

    A split without any may say so by ``fixed = True``: its batches are then fetched with no seed.
    """

    def seed_augmentation(self, *entropy: int) -> None:
        """Restart the augmentation from ``entropy``."""
        ...


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
