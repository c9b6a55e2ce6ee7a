"""In which order samples come: by epochs, each rank its own, in numbered batches."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from flowgen.core import InputError, generator_for


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
