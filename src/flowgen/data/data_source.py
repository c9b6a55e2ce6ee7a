"""A data set as the source: flows from data to data, with no pairs between the two.

In training each batch draws rows of the training split, without repetition, from the generator of
the batch: they follow from ``(seed, batch, rank)`` alone, so a run that is resumed, or shared by
several processes, sees the rows it would have seen. Sampling starts from held-out rows in their
order, or from rows that are given. Both are encoded by the codec of the model, so that source and
data have one normalisation.

What travels in a checkpoint is the shape, the number of rows and a digest; the rows stay where they
are.
"""

import copy
import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.data.arrays import ArraySplit
from flowgen.data.loading import Augmented
from flowgen.data.protocol import Codec, DataSet, Split, learnt_from

log = logging.getLogger(__name__)

_AT_ONCE = 1024
"""Rows that are read at once for the digest."""


class DataSource:
    """Rows of a data set as ``x_0``: a :class:`flowgen.core.Source`.

    Args:
        shape: Of a row as the model sees it.
        data: The data set; None, as in a checkpoint, until :meth:`use` gives one.
        digest: Of the data set that the model was trained with, to tell if another is used; None
            if unknown.

    Raises:
        InputError: If rows of the data set do not have the shape.
    """

    def __init__(
        self, shape: Sequence[int], data: DataSet | None = None, digest: str | None = None
    ) -> None:
        self.shape = tuple(int(side) for side in shape)
        self.digest = digest
        self.codec: Codec | None = None
        self._training: Split | None = None
        self._starts: Split | None = None
        self._seed: int | None = None
        if data is not None:
            self.use(data, data.codec)

    @property
    def ready(self) -> bool:
        """Whether there are rows to draw."""
        return self._starts is not None

    @property
    def count(self) -> int:
        """How many different rows samples can start from."""
        return len(_there(self._starts))

    def use(self, data: DataSet, codec: Codec) -> None:
        """Take the rows of a data set, and the codec that the model sees them by.

        Raises:
            InputError: If they do not have the shape of the model.
        """
        shape = tuple(codec.encoded_shape(data.shape))
        if shape != self.shape:
            raise InputError(
                f"source and data must have one shape, and a sample of {data.name} is {shape}, "
                f"where the model sees {self.shape}"
            )
        self.codec = codec
        self._training, self._starts = learnt_from(data), data.test
        digest = _digest(self._training, self._starts)
        if self.digest is not None and digest != self.digest:
            log.warning(
                "the source (%s) is not the one that the model was trained with: it has other "
                "rows now",
                data.name,
            )
        self.digest = self.digest or digest

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return ``n`` rows of the training split, encoded, ``(n, *shape)``.

        Each comes once before any comes again; with augmentation, each time anew.

        Args:
            n: How many.
            generator: Of rows and augmentation, on ``device``.
            device: Where to put them.

        Raises:
            InputError: If there are no rows, as in a checkpoint that was just loaded.
        """
        split = _there(self._training)
        where = "cpu" if generator is None else generator.device
        rounds = -(-n // len(split))
        order = [
            torch.randperm(len(split), generator=generator, device=where) for _ in range(rounds)
        ]
        if isinstance(split, Augmented):
            entropy = torch.randint(2**31, (), generator=generator, device=where)
            split.seed_augmentation(int(entropy))
        rows = torch.cat(order)[:n].tolist()
        return self._encoded(split.__getitems__(rows)["x_1"], device)

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """Return the rows that samples of these numbers start from, encoded, in their order.

        After the last row the first comes again.

        Raises:
            InputError: If there are no rows.
        """
        if self._seed is None or not isinstance(self._starts, Augmented):
            return self._encoded(self.stored(numbers), None)
        # Each row is augmented by its number, so that parts of a set make the whole.
        found = []
        for number in numbers:
            self._starts.seed_augmentation(self._seed, number)
            found.append(self._starts.__getitems__([number % self.count])["x_1"])
        return self._encoded(torch.cat(found), None)

    def stored(self, numbers: Sequence[int]) -> Tensor:
        """Return the same rows as they are stored (images: uint8), without augmentation.

        Raises:
            InputError: If there are no rows.
        """
        split = _there(self._starts)
        return split.__getitems__([number % len(split) for number in numbers])["x_1"]

    def of_training(self, seed: int) -> "DataSource":
        """Return the same source, whose samples start from the rows it was trained with.

        Args:
            seed: Of the augmentation of each row.
        """
        other = copy.copy(self)
        other._starts, other._seed = _there(self._training), seed
        return other

    def given(self, x: Tensor, codec: Codec) -> "DataSource":
        """Return the same source, whose samples start from given rows.

        Args:
            x: As data are stored, ``(n, *d)``, at least one.
            codec: Of the model.
        """
        other = copy.copy(self)
        other._starts, other.codec, other._seed = ArraySplit(x), codec, None
        return other

    def state_dict(self) -> dict[str, Any]:
        """Return what tells whether a run goes on with the same source."""
        return {"digest": self.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Check that the source is the one of :meth:`state_dict`.

        Raises:
            InputError: If it has other rows.
        """
        if state.get("digest") != self.digest:
            raise InputError("the source has other rows than before: the run cannot go on with it")

    def _encoded(self, x: Tensor, device: torch.device | str | None) -> Tensor:
        assert self.codec is not None
        return self.codec.encode(x if device is None else x.to(device))


def _there(split: Split | None) -> Split:
    if split is None:
        raise InputError(
            "this model starts from data that are not there yet: give them by images=<folder>"
        )
    return split


def _digest(training: Split, held_out: Split) -> str:
    """Return a digest of held-out rows, which are never augmented, and the number of the others."""
    digest = hashlib.sha256(str(len(training)).encode())
    for first in range(0, len(held_out), _AT_ONCE):
        rows = range(first, min(first + _AT_ONCE, len(held_out)))
        x = held_out.__getitems__(list(rows))["x_1"]
        digest.update(f"{x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
