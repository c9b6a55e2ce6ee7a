"""Data sets held in memory: a tensor of samples and, if labelled, a tensor of labels.

Images stay uint8 until the codec, on the accelerator, makes floats of them: a quarter of the
memory and of the transfer. A batch is fetched by one indexing operation, and augmentation acts on
the batch.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from flowgen.core import InputError, generator_for
from flowgen.data.codecs import Pixels
from flowgen.data.protocol import Batch, Codec, Split


class ArraySplit(Dataset[Batch]):
    """Samples in memory, as a map-style data set that fetches whole batches.

    Args:
        x: Samples, shape ``(n, *d)``.
        labels: Classes, int64 ``(n,)``, or None.
        others: What else a batch holds of each sample, by name, ``(n, ...)``; None for nothing.
        flip: Mirror each fetched sample left to right (last axis) with probability one half.
        seed: Of the augmentation; see :meth:`seed_augmentation`.
    """

    def __init__(
        self,
        x: Tensor,
        labels: Tensor | None = None,
        *,
        others: Mapping[str, Tensor] | None = None,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        self.x = x
        self.labels = labels
        self.others = dict(others or {})
        self.flip = flip
        self.generator = generator_for(seed)

    @property
    def fixed(self) -> bool:
        """Whether a batch depends on nothing but its indices; what a subclass draws is unknown."""
        return type(self) is ArraySplit and not self.flip

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.x.shape[0]

    def __getitem__(self, index: int) -> Batch:
        """Return one sample, augmented like a batch."""
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return the collated, augmented batch of ``indices``."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        x = self.x[rows]
        if self.flip:
            mirrored = torch.rand(len(x), generator=self.generator) < 0.5
            x = torch.where(mirrored.reshape(-1, *([1] * (x.ndim - 1))), x.flip(-1), x)
        batch = {"x_1": x} if self.labels is None else {"x_1": x, "label": self.labels[rows]}
        return batch | {name: value[rows] for name, value in self.others.items()}

    def seed_augmentation(self, *entropy: int) -> None:
        """Restart the augmentation from ``entropy``, e.g. ``(seed, batch, rank)``."""
        self.generator = generator_for(*entropy)


class ImageData:
    """Images in memory with their labels: a :class:`flowgen.data.DataSet`.

    Use it as it is for tensors of your own, or see its subclasses for known sets.

    Args:
        name: Short name for logs and reports.
        train: Training images, uint8 ``(n, c, h, w)``.
        test: Held-out images, uint8 ``(m, c, h, w)``.
        train_labels: int64 ``(n,)`` in ``0 .. len(label_names) - 1``, or None.
        test_labels: int64 ``(m,)``, given if and only if ``train_labels`` is.
        label_names: Name of each class in order, given if and only if labels are.
        train_others: What else batches hold of training images, by name, e.g. ``caption (n,)``.
        test_others: The same of held-out images.
        flip: Mirror training images left to right at random.
        seed: Of the augmentation, until a loader sets its own.

    Raises:
        InputError: If images are not uint8 ``(n, c, h, w)`` of one shape, a set is empty, or labels
            do not fit.
    """

    def __init__(
        self,
        name: str,
        train: Tensor,
        test: Tensor,
        *,
        train_labels: Tensor | None = None,
        test_labels: Tensor | None = None,
        label_names: Sequence[str] | None = None,
        train_others: Mapping[str, Tensor] | None = None,
        test_others: Mapping[str, Tensor] | None = None,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        for which, x in (("train", train), ("test", test)):
            if x.dtype != torch.uint8 or x.ndim != 4 or 0 in x.shape:
                raise InputError(
                    f"{name}: {which} must be uint8 images (n, c, h, w), n >= 1, "
                    f"got {x.dtype} {tuple(x.shape)}"
                )
        if train.shape[1:] != test.shape[1:]:
            raise InputError(
                f"{name}: train and test images must have one shape, "
                f"got {tuple(train.shape[1:])} and {tuple(test.shape[1:])}"
            )
        if len({label_names is None, train_labels is None, test_labels is None}) != 1:
            raise InputError(f"{name}: give train_labels, test_labels and label_names, or none")
        _check_labels(name, train, train_labels, label_names)
        _check_labels(name, test, test_labels, label_names)
        self.name = name
        self.shape: tuple[int, ...] = tuple(train.shape[1:])
        self.label_names = None if label_names is None else tuple(label_names)
        self.num_classes = None if label_names is None else len(label_names)
        self.codec: Codec = Pixels()
        self._train = ArraySplit(train, train_labels, others=train_others, flip=flip, seed=seed)
        self._test = ArraySplit(test, test_labels, others=test_others)

    @property
    def train(self) -> Split:
        """Images to train on."""
        return self._train

    @property
    def test(self) -> Split:
        """Held-out images, never augmented."""
        return self._test


def _check_labels(
    name: str, x: Tensor, labels: Tensor | None, label_names: Sequence[str] | None
) -> None:
    if labels is None or label_names is None:
        return
    if labels.dtype != torch.int64 or labels.shape != (len(x),):
        raise InputError(
            f"{name}: labels must be int64 of shape ({len(x)},), "
            f"got {labels.dtype} {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(label_names):
        raise InputError(f"{name}: labels must lie in 0..{len(label_names) - 1}, got {low}..{high}")
