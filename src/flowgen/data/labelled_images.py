"""Images with names of classes and captions, split and kept in memory: what own sets share."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.data.arrays import ImageData
from flowgen.data.splits import stratified_split


class LabelledImages(ImageData):
    """Images whose classes and captions are given in words.

    Args:
        name: Short name for logs and reports.
        x: All images, uint8 ``(n, c, h, w)``.
        classes: The class of each, or None.
        captions: The caption of each, or None; empty for an image without one.
        label_names: Names of the classes in order; None sorts those that there are.
        holdout: Fraction of each class that is held out, in (0, 1).
        flip: Mirror training images left to right at random.
        seed: Of the split and of the augmentation, non-negative.

    Attributes:
        captions: The different captions; batches name them by their numbers, ``caption (b,)``. None
            where there are none.

    Raises:
        InputError: If there are less than two images, or a number is out of range.
    """

    def __init__(
        self,
        name: str,
        x: Tensor,
        classes: Sequence[str] | None,
        captions: Sequence[str] | None,
        *,
        label_names: Sequence[str] | None = None,
        holdout: float = 0.1,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        labels, names = None, None
        if classes is not None:
            names = sorted(set(classes)) if label_names is None else list(label_names)
            index = {each: i for i, each in enumerate(names)}
            labels = torch.tensor([index[each] for each in classes])
        groups = torch.zeros(len(x), dtype=torch.int64) if labels is None else labels
        train, test = stratified_split(groups, holdout, seed=seed)
        self.captions = None if captions is None else tuple(dict.fromkeys(captions))
        number = None
        if captions is not None and self.captions is not None:
            place = {caption: i for i, caption in enumerate(self.captions)}
            number = torch.tensor([place[caption] for caption in captions])
        super().__init__(
            name,
            x[train],
            x[test],
            train_labels=None if labels is None else labels[train],
            test_labels=None if labels is None else labels[test],
            label_names=names,
            train_others=None if number is None else {"caption": number[train]},
            test_others=None if number is None else {"caption": number[test]},
            flip=flip,
            seed=seed,
        )


def stacked(images: Sequence[Tensor], where: str) -> Tensor:
    """Return images ``(c, h, w)`` of one shape as one tensor ``(n, c, h, w)``.

    Args:
        images: Two at least.
        where: They are from, for the message.

    Raises:
        InputError: If there are less.
    """
    if len(images) < 2:
        raise InputError(f"{where} has {len(images)} images: at least 2 are needed")
    return torch.stack(list(images))


def check_form(size: int | Sequence[int], channels: int) -> tuple[int, int]:
    """Return height and width that images are brought to.

    Args:
        size: A side, or ``(h, w)``, in pixels.
        channels: 1 or 3.

    Raises:
        InputError: If they are out of range.
    """
    if channels not in (1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (colour), got {channels}")
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(side < 1 for side in sides):
        raise InputError(f"size must be a side or (h, w), each >= 1 pixel, got {size}")
    return sides[0], sides[1]


def reason(error: Exception) -> str:
    """Return in one line why an image cannot be read, without the address of its stream."""
    return " ".join(re.sub(r"<\S+ object at 0x[0-9a-fA-F]+>", "", str(error)).split())
