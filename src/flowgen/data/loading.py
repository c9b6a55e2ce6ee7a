"""Loaders: batches in an order that depends on ``(seed, epoch)`` alone, shared out among ranks.

One permutation of the whole set is drawn for each epoch, the same on every rank, and rank ``r`` of
``w`` takes its entries ``r, r + w, ...``. Training drops the remainder so that all ranks take
equally many full batches; otherwise the end is filled up with entries from the start, so that no
rank waits for another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils.data import DataLoader, Sampler, get_worker_info

from flowgen.core import InputError, generator_for
from flowgen.data.protocol import Batch, Split


@runtime_checkable
class Augmented(Protocol):
    """A split whose augmentation can be restarted."""

    def seed_augmentation(self, *entropy: int) -> None:
        """Restart the augmentation from ``entropy``."""
        ...


class EpochSampler(Sampler[int]):
    """Indices of one rank, in an order that depends on ``(seed, epoch)`` alone.

    Lightning calls :meth:`set_epoch` at each start of an epoch, as it does for torch's own
    distributed sampler; in a loop of your own, call it yourself.

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
        if self.shuffle:
            order = torch.randperm(self.size, generator=generator_for(self.seed, self.epoch))
        else:
            order = torch.arange(self.size)
        places = torch.arange(len(self)) * self.world_size + self.rank
        yield from order[places % self.size].tolist()


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
    """Return a loader of collated batches, ready for somebody's own loop or for Lightning.

    Its ``sampler`` is an :class:`EpochSampler`, which knows the ranks itself: with several
    processes give ``rank`` and ``world_size`` and keep Lightning from replacing the sampler
    (``Trainer(use_distributed_sampler=False)``). Augmentation is seeded by
    ``(seed, rank, worker)``, so a run repeats itself exactly for one ``num_workers``.

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
    if batch_size < 1:
        raise InputError(f"batch_size must be >= 1, got {batch_size}")
    if num_workers < 0:
        raise InputError(f"num_workers must be >= 0, got {num_workers}")
    sampler = EpochSampler(
        len(dataset),
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
    )
    if drop_last and len(sampler) < batch_size:
        share = f" ({len(sampler)} for each of {world_size} processes)" if world_size > 1 else ""
        raise InputError(
            f"batch_size {batch_size} is larger than the {len(dataset)} samples of the set{share}: "
            f"use a batch_size of at most {len(sampler)}"
        )
    reseed = _Reseed(dataset, seed, rank)
    if num_workers == 0:
        reseed(0)
    return DataLoader(
        dataset,  # pyright: ignore[reportArgumentType]  # a Split is a Dataset in all but name
        batch_size=batch_size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=num_workers,
        collate_fn=_as_is,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=reseed,
        persistent_workers=num_workers > 0,
        generator=generator_for(seed, rank),
    )


def _as_is(batch: Any) -> Any:
    """Return the batch, which ``__getitems__`` has collated."""
    return batch


@dataclass(frozen=True)
class _Reseed:
    """Restarts the augmentation of the data set, in a worker that of the worker's own copy."""

    dataset: Split
    seed: int
    rank: int

    def __call__(self, worker: int) -> None:
        info = get_worker_info()
        dataset = self.dataset if info is None else info.dataset
        if isinstance(dataset, Augmented):
            dataset.seed_augmentation(self.seed, self.rank, worker)
