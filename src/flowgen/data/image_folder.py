"""Your own images: any folder, any sizes and modes, decoded once into memory.

``root/cat/1.png, root/dog/2.jpg`` is labelled by the folders right below ``root`` (sorted by name,
deeper folders belong to them); ``root/1.png, root/2.jpg`` is unlabelled.
"""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from flowgen.core import InputError
from flowgen.data.captions import read_captions
from flowgen.data.image_files import find_images, read_image
from flowgen.data.labelled_images import LabelledImages, check_form
from flowgen.data.splits import check_holdout

_NAMED = 10  # how many files an error names
_SHOW_PROGRESS = 2000  # files from which a progress bar is worth it
logger = logging.getLogger(__name__)


class ImageFolder(LabelledImages):
    """The images of a folder, resized to one shape.

    Args:
        root: The folder; see the module for its layouts.
        size: Side in pixels, or ``(h, w)``; the shortest side is resized, the centre cropped.
        channels: 3 for colour, 1 for grey.
        holdout: Fraction of each class that is held out, in (0, 1).
        flip: Mirror training images left to right at random.
        seed: Of the split and of the augmentation, non-negative.
        skip_unreadable: Leave out files that are no readable image instead of refusing.

    Attributes:
        captions: What images show, see :mod:`flowgen.data.captions`; batches name captions by their
            numbers, ``caption (b,)``. None where there are none.

    Raises:
        InputError: If the folder is missing, has no image, mixes the two layouts or has unreadable
            files (all are looked at first, ten are named), or an argument is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        size: int | Sequence[int] = 32,
        channels: int = 3,
        holdout: float = 0.1,
        flip: bool = False,
        seed: int = 0,
        skip_unreadable: bool = False,
    ) -> None:
        height, width = check_form(size, channels)
        check_holdout(holdout, seed)
        folder = Path(root).expanduser()
        files, classes = _list_images(folder)
        x, kept = _decode(files, (height, width), channels, skip_unreadable)
        if len(kept) < 2:
            raise InputError(f"{folder} has {len(kept)} readable image: at least 2 are needed")
        super().__init__(
            folder.resolve().name,
            x,
            [classes[i] for i in kept] if classes else None,
            read_captions(folder, [files[i] for i in kept]),
            holdout=holdout,
            flip=flip,
            seed=seed,
        )


def _list_images(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files and, for the nested layout, the class of each."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"root {folder} {what}: give a folder of images")
    files = find_images(folder)
    if not files:
        raise InputError(f"no images in {folder}: expected files such as .png, .jpg or .webp")
    flat = [path for path in files if path.parent == folder]
    if flat and len(flat) < len(files):
        nested = next(path for path in files if path.parent != folder)
        raise InputError(
            f"{folder} mixes {len(flat)} images right in it ({_some(flat, folder, 3)}) with "
            f"images in folders ({nested.relative_to(folder)}, ...): put all in folders, or none"
        )
    return files, [] if flat else [path.relative_to(folder).parts[0] for path in files]


def _decode(
    files: list[Path], size: tuple[int, int], channels: int, skip_unreadable: bool
) -> tuple[Tensor, list[int]]:
    """Return the decoded images ``(n, c, h, w)`` and which of ``files`` they are."""
    from tqdm import tqdm

    x = torch.empty((len(files), channels, *size), dtype=torch.uint8)
    read = partial(_try_read, size=size, channels=channels)
    kept: list[int] = []
    bad: list[tuple[Path, str]] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(read, files)
        hide = len(files) <= _SHOW_PROGRESS
        for i, result in enumerate(
            tqdm(results, total=len(files), desc="reading images", unit="file", disable=hide)
        ):
            if isinstance(result, str):
                bad.append((files[i], result))
            else:
                x[len(kept)] = result
                kept.append(i)
    if bad:
        named = "; ".join(f"{path} ({reason})" for path, reason in bad[:_NAMED])
        more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        told = f"{len(bad)} of {len(files)} image files cannot be read: {named}{more}"
        if not skip_unreadable:
            raise InputError(f"{told}. Repair or remove them, or set skip_unreadable=true")
        logger.warning("left out: %s", told)
    return x[: len(kept)], kept


def _try_read(path: Path, *, size: tuple[int, int], channels: int) -> Tensor | str:
    """Return the image, or in one line why it cannot be read."""
    try:
        return read_image(path, size=size, channels=channels)
    except ValueError as error:
        return " ".join(str(error).replace(str(path), path.name).split())


def _some(paths: list[Path], folder: Path, count: int) -> str:
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:count])
    return names + (", ..." if len(paths) > count else "")
