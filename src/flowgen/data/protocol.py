"""What training, evaluation and the pipeline ask of a data set; any object with these will do.

Samples are kept in the form they are stored in (images: uint8, vectors: float32); the codec of the
data set maps them to what a model sees and back. Labels are integers ``0 .. num_classes - 1``.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

Batch = dict[str, Tensor]
"""``x_1 (b, *shape)`` and, for labelled data, ``label (b,)`` int64."""


@runtime_checkable
class Split(Protocol):
    """A map-style torch data set that can fetch a whole batch at once."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Batch:
        """Return one sample: ``x_1`` of shape ``shape`` and, if labelled, a 0-dim ``label``."""
        ...

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return the collated batch of ``indices``; the loader needs no collate function."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Maps stored samples to what a model sees, and back."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the float tensor a model sees, on the device of ``x (b, *d)``."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Return samples in the stored form from model outputs ``z (b, *d)``."""
        ...

    def encoded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of what a model sees of a sample of ``shape``."""
        ...

    def to_config(self) -> Mapping[str, object]:
        """Return the plain ``_target_`` dict that builds this codec again."""
        ...


@runtime_checkable
class DataSet(Protocol):
    """Training and held-out samples, with what is known of them.

    Attributes:
        name: Short name for logs and reports.
        shape: Shape of one sample, e.g. ``(1, 28, 28)`` or ``(2,)``.
        num_classes: Number of labels, None for unlabelled data.
        label_names: Name of each label in order, None for unlabelled data.
        codec: The natural codec of the data.
    """

    name: str
    shape: tuple[int, ...]
    num_classes: int | None
    label_names: tuple[str, ...] | None
    codec: Codec

    @property
    def train(self) -> Split:
        """Samples to train on."""
        ...

    @property
    def test(self) -> Split:
        """Held-out samples, never trained on and never augmented."""
        ...


def learnt_from(data: DataSet) -> Split:
    """Return what training reads of a data set: its encoded samples where it keeps such."""
    return getattr(data, "encoded", data.train)
