"""A whole training set, read in its order."""

from collections.abc import Iterator

import torch

from flowgen.core import InputError
from flowgen.data.loading import Augmented
from flowgen.data.protocol import Batch, Split

_ROWS = 4096


def whole(split: Split) -> Iterator[Batch]:
    """Yield all samples of a split as they are stored, in order, in chunks.

    Args:
        split: Of a data set, without augmentation.

    Raises:
        InputError: If the samples are augmented, so that there is no one set of them.
    """
    first = list(range(min(256, len(split))))
    if isinstance(split, Augmented):
        seen = []
        for seed in range(2):
            split.seed_augmentation(seed)
            seen.append(split.__getitems__(first)["x_1"])
        if not torch.equal(*seen):
            raise InputError(
                "the data are augmented at random, and one fixed set is needed: switch it off, "
                "e.g. data.flip=false"
            )
    for start in range(0, len(split), _ROWS):
        yield split.__getitems__(list(range(start, min(start + _ROWS, len(split)))))
