"""Images in shards of the WebDataset layout: tar files whose members share a name.

``0001.jpg``, ``0001.cls`` and ``0001.txt`` are an image, its class and its caption; the class may
be a number or a name. The images are decoded once into memory.
"""

import glob
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from tarfile import (
    EOFHeaderError,  # pyright: ignore[reportAttributeAccessIssue]
    HeaderError,
    ReadError,
    TarFile,
    TarInfo,
)

from flowgen.core import InputError
from flowgen.data.image_files import SUFFIXES, read_image
from flowgen.data.labelled_images import LabelledImages, check_form, reason, stacked
from flowgen.data.splits import check_holdout

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_BLOCK = 1 << 20  # bytes read at once


class WebDataset(LabelledImages):
    """The images of tar shards, resized to one shape.

    Args:
        shards: A file, a pattern such as ``shards/*.tar`` or ``shards/{000..012}.tar``, or a list.
        size: Side in pixels, or ``(h, w)``; the shortest side is resized, the centre cropped.
        channels: 3 for colour, 1 for grey.
        holdout: Fraction of each class that is held out, in (0, 1).
        flip: Mirror training images left to right at random.
        seed: Of the split and of the augmentation, non-negative.

    Raises:
        InputError: If there is no shard, a shard is damaged or cut short, an image cannot be read,
            there are no images, only some have a class, or an argument is out of range.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        size: int | Sequence[int] = 32,
        channels: int = 3,
        holdout: float = 0.1,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        form = check_form(size, channels)
        check_holdout(holdout, seed)
        images, classes, captions = [], [], []
        for where, parts in _samples(_files(shards)):
            suffix = next((suffix for suffix in parts if f".{suffix}" in SUFFIXES), None)
            if suffix is None:
                continue
            try:
                images.append(read_image(io.BytesIO(parts[suffix]), size=form, channels=channels))
            except ValueError as error:
                raise InputError(f"{where}.{suffix} cannot be read: {reason(error)}") from error
            classes.append(_text(parts.get("cls")))
            captions.append(_text(parts.get("txt")))
        x = stacked(images, str(shards))
        labelled = [own is not None for own in classes]
        if any(labelled) and not all(labelled):
            raise InputError(
                f"{labelled.count(False)} of {len(images)} images have no .cls: give all, or none"
            )
        own = [each for each in classes if each is not None]
        numbers = all(each.isdigit() for each in own)
        names = sorted(set(own), key=int) if own and numbers else None
        told = any(each is not None for each in captions)
        super().__init__(
            "webdataset",
            x,
            own or None,
            [each or "" for each in captions] if told else None,
            label_names=names,
            holdout=holdout,
            flip=flip,
            seed=seed,
        )


def _files(shards: str | Sequence[str]) -> list[Path]:
    """Return the shards that patterns mean, in order."""
    found: list[Path] = []
    for pattern in [shards] if isinstance(shards, str) else shards:
        for one in _numbered(str(Path(pattern).expanduser())):
            files = sorted(Path(name) for name in glob.glob(one))
            if not files:
                raise InputError(f"shards: there is no file '{one}'")
            found += files
    if not found:
        raise InputError("shards: give at least one tar file")
    return found


def _numbered(pattern: str) -> Iterator[str]:
    """Yield the patterns that ``{000..012}`` stands for."""
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        here = f"{number:0{len(first)}d}"
        yield from _numbered(pattern[: match.start()] + here + pattern[match.end() :])


def _samples(files: Sequence[Path]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the place of each sample and its parts by suffix; members of one stand together."""
    for file in files:
        key, parts = "", {}
        for member, content in _members(file):
            name = PurePosixPath(member)
            if name.name.startswith("."):
                continue
            stem, _, suffix = name.name.partition(".")
            own = str(name.with_name(stem))
            if own != key and parts:
                yield f"{file}: {key}", parts
                parts = {}
            key = own
            parts[suffix.lower()] = content
        if parts:
            yield f"{file}: {key}", parts


class _Checked(TarInfo):
    """A member whose header must be whole: at a bad one tarfile takes the archive to have ended."""

    @classmethod
    def fromtarfile(cls, tarfile: TarFile) -> "_Checked":
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:  # the zeros at the end
            raise
        except HeaderError as error:
            raise ReadError(f"damaged or cut short, {error}") from error


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the members of a shard, which is read to its very end.

    Raises:
        InputError: If it does not end with blocks of zeros, or a checksum does not fit.
    """
    try:
        with TarFile.open(file, tarinfo=_Checked) as archive:
            for member in archive:
                if (stream := archive.extractfile(member)) is not None:
                    yield member.name, stream.read()
            # One block of zeros was read as the header that ends it; the rest must be zeros too.
            # To its end, where gzip compares the checksum.
            assert archive.fileobj is not None
            while rest := archive.fileobj.read(_BLOCK):
                if rest.strip(b"\0"):
                    raise ReadError("damaged, there is more after its end")
    except Exception as error:  # of each compression its own kinds
        line = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise InputError(f"{file} is no readable tar file: {line.rstrip(':')}") from error


def _text(content: bytes | None) -> str | None:
    return None if content is None else " ".join(content.decode("utf-8", "replace").split())
