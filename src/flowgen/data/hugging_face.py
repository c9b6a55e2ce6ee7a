"""Images of a data set of the Hugging Face library, by its name on the hub or from a folder.

The images are decoded once into memory.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from flowgen.core import InputError
from flowgen.data.image_files import pixels_of
from flowgen.data.labelled_images import LabelledImages, check_form, reason, stacked
from flowgen.data.splits import check_holdout


class HuggingFace(LabelledImages):
    """A data set of images of the ``datasets`` library, resized to one shape.

    Args:
        path: Name on the hub, such as ``uoft-cs/cifar10``, a folder of files that the library
            reads, or one that it saved to disk.
        name: Configuration of the data set, where it has several.
        split: The part to take; some of it is held out.
        image: Column of the images; None takes the only one of images.
        label: Column of the classes; None takes the only one of classes, or none.
        caption: Column of the captions; None for none.
        download: Fetch what is not on this machine; False takes what is there, or refuses.
        size: Side in pixels, or ``(h, w)``; the shortest side is resized, the centre cropped.
        channels: 3 for colour, 1 for grey.
        holdout: Fraction of each class that is held out, in (0, 1).
        flip: Mirror training images left to right at random.
        seed: Of the split and of the augmentation, non-negative.

    Raises:
        InputError: If the library or the data set is missing, a column does not fit, a row has no
            class or no readable image, or an argument is out of range.
    """

    def __init__(
        self,
        path: str,
        name: str | None = None,
        split: str = "train",
        image: str | None = None,
        label: str | None = None,
        caption: str | None = None,
        download: bool = False,
        size: int | Sequence[int] = 32,
        channels: int = 3,
        holdout: float = 0.1,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        form = check_form(size, channels)
        check_holdout(holdout, seed)
        table = _table(path, name, split, download=download)
        image = _column(table, image, "Image", "image")
        if image is None:
            raise InputError(f"{path} has no column of images; it has {', '.join(table.features)}")
        label = _column(table, label, "ClassLabel", "label")
        caption = _column(table, caption, None, "caption")
        names = None if label is None else getattr(table.features[label], "names", None)
        # Before the images, whose decoding takes longest.
        classes = None if label is None else _classes(table[label], names, f"{path}: {label}")
        captions = None if caption is None else _captions(table[caption], f"{path}: {caption}")
        super().__init__(
            Path(path).name,
            stacked(_images(table[image], form, channels, path), path),
            classes,
            captions,
            label_names=names,
            holdout=holdout,
            flip=flip,
            seed=seed,
        )


def _table(path: str, name: str | None, split: str, *, download: bool) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            "data=hugging_face needs its library: pip install 'flowgen[hub]'"
        ) from error
    folder = Path(path).expanduser()
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            found: Any = datasets.load_from_disk(str(folder))
            if isinstance(found, dict):
                found = found[split]
        else:
            where = str(folder) if folder.exists() else path
            config = datasets.DownloadConfig(local_files_only=not download)
            found = datasets.load_dataset(where, name, split=split, download_config=config)
    except KeyError as error:
        raise InputError(f"{path} has no split {error}") from error
    except Exception as error:  # the library raises many kinds, for a network that is not there too
        line = " ".join(str(error).split())[:200]
        raise InputError(f"no data set of Hugging Face at '{path}': {line}") from error
    return found


def _images(column: Iterable[Any], size: tuple[int, int], channels: int, path: str) -> list[Tensor]:
    """Return the images of a column, uint8 ``(channels, h, w)`` each."""
    from PIL import Image

    images: list[Tensor] = []
    try:
        for own in column:
            if not isinstance(own, Image.Image):
                raise ValueError(f"expected an image, got {_short(own)}")
            images.append(pixels_of(own, size=size, channels=channels))
    except Exception as error:  # the library decodes as it goes, and Pillow raises many kinds
        line = reason(error) or type(error).__name__
        raise InputError(f"{path}: image {len(images)} cannot be read: {line}") from error
    return images


def _classes(column: Iterable[Any], names: Sequence[str] | None, where: str) -> list[str]:
    """Return the class of each row by name; a value without a name is none, like the library's -1.

    Args:
        column: Numbers of ``names``, or any numbers or words where there are no names.
        names: Of the classes, or None.
        where: For the message: data set and column.
    """
    found = []
    for row, own in enumerate(column):
        known = isinstance(own, (int, float, str))
        if names is not None:
            known = isinstance(own, int) and 0 <= own < len(names)
        if not known:
            raise InputError(
                f"{where} has no class for row {row}, got {_short(own)}: give all rows one, or "
                "leave out those without"
            )
        found.append(str(own) if names is None else names[own])
    return found


def _captions(column: Iterable[Any], where: str) -> list[str]:
    """Return the caption of each row, empty where it has none."""
    found = []
    for row, own in enumerate(column):
        if own is not None and not isinstance(own, str):
            raise InputError(f"{where} must be one text a row, got {_short(own)} in row {row}")
        found.append(" ".join((own or "").split()))
    return found


def _short(value: Any) -> str:
    """Return a value in one line of at most 60 characters."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 60 else f"{line[:57]}..."


def _column(table: Any, wanted: str | None, kind: str | None, what: str) -> str | None:
    """Return the column that is asked for, or the only one of a kind."""
    if wanted is not None:
        if wanted not in table.features:
            raise InputError(
                f"{what}={wanted}: there is no such column; there are {', '.join(table.features)}"
            )
        return wanted
    found = [name for name, own in table.features.items() if type(own).__name__ == kind]
    if len(found) > 1:
        raise InputError(f"{what} must name one of the columns {', '.join(found)}")
    return found[0] if found else None
