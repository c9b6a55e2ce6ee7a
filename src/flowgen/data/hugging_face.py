"""Images of a data set of the Hugging Face library, by its name on the hub or from a folder.

The images are decoded once into memory.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowgen.core import InputError
from flowgen.data.image_files import pixels_of
from flowgen.data.labelled_images import LabelledImages, check_form, stacked
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
        InputError: If the library or the data set is missing, a column does not fit, an image
            cannot be read, or an argument is out of range.
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
        from PIL import Image

        images = []
        for row, own in enumerate(table[image]):
            try:
                images.append(pixels_of(own, size=form, channels=channels))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise InputError(f"{path}: image {row} cannot be read: {error}") from error
        names, classes = None, None
        if label is not None:
            names = getattr(table.features[label], "names", None)
            values = table[label]
            classes = [names[value] if names else str(value) for value in values]
        captions = None
        if caption is not None:
            captions = [" ".join(str(text or "").split()) for text in table[caption]]
        super().__init__(
            Path(path).name,
            stacked(images, path),
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
