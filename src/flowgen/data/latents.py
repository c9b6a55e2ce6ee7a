"""Latents of a data set of images, encoded once and mapped into memory.

A folder of them holds ``latents.json`` (what they were made of), ``train.safetensors`` (mean and
deviation of each training image's latents, half precision, with its labels and captions) and
``autoencoder/`` (the autoencoder as diffusers writes it). Models train on the latents; held-out
images stay images, so that figures of merit compare images with images.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.utils.data import Dataset

from flowgen.core import InputError, generator_for
from flowgen.data.autoencoder import digest_of, read_autoencoder
from flowgen.data.latent_codec import LatentCodec
from flowgen.data.protocol import Batch, DataSet, Split
from flowgen.data.whole import whole

HEADER = "latents.json"
"""Name of the header in its folder."""

AUTOENCODER = "autoencoder"
"""Name of the autoencoder's folder in it."""

TRAIN = "train.safetensors"
"""Name of the file of the training latents in it."""

_FORMAT = 1
MEAN, STD = "latent_mean", "latent_std"
"""Names of means and deviations of latents in the file."""


@dataclass(frozen=True)
class Header:
    """What latents were made of.

    Args:
        name: Of the autoencoder: where it came from.
        digest: Of its settings and weights.
        images: Plain config of the data set of the images.
        num_images: Training images.
        image_digest: Of the training images.
        image_shape: Channels, height, width of an image.
        latent_shape: The same of its latents.
        mean: Of each channel of the latents.
        std: Their standard deviations.
        words: Digests of what numbers stand for, see :func:`word_digests`; none in older folders.
        format: Of the folder.
    """

    name: str
    digest: str
    images: Mapping[str, Any]
    num_images: int
    image_digest: str
    image_shape: tuple[int, ...]
    latent_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    words: Mapping[str, str] = field(default_factory=dict)
    format: int = _FORMAT

    @classmethod
    def read(cls, folder: str | Path) -> "Header":
        """Return the header of a folder.

        Raises:
            InputError: If there is none, or it is damaged or of another format.
        """
        file = Path(folder).expanduser() / HEADER
        if not file.is_file():
            raise InputError(f"no {HEADER} in '{folder}': make latents by flowgen encode")
        try:
            content = json.loads(file.read_text())
            found = content["format"]
            if found != _FORMAT:
                raise InputError(f"{file} has format {found}, this version knows {_FORMAT}")
            if not isinstance(content.get("words", {}), dict):
                raise TypeError("words must be digests by name")
            lists = {key: tuple(value) for key, value in content.items() if type(value) is list}
            return cls(**{**content, **lists})
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file} is no header of latents, or is damaged") from error


class LatentSplit(Dataset[Batch]):
    """Training latents with labels, drawn anew from their distributions at each fetch.

    Args:
        file: ``train.safetensors`` of a folder of latents.

    Raises:
        InputError: If it is missing or damaged.
    """

    def __init__(self, file: Path) -> None:
        try:
            with safe_open(file, framework="pt") as content:
                found = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            self.mean = found.pop(MEAN)
        except (SafetensorError, OSError, KeyError) as error:
            raise InputError(f"{file} is missing or damaged: run flowgen encode again") from error
        self.std = found.pop(STD, None)
        self.others = found
        self.generator = generator_for(0)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.mean)

    def __getitem__(self, index: int) -> Batch:
        """Return one sample."""
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return ``x_1 (b, *latent_shape)`` float32, not normalised, and what is known of it."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        x = self.mean[rows].float()
        if self.std is not None:
            x += self.std[rows].float() * torch.randn(x.shape, generator=self.generator)
        return {"x_1": x} | {name: value[rows] for name, value in self.others.items()}

    def seed_augmentation(self, *entropy: int) -> None:
        """Restart the draws from ``entropy``, e.g. ``(seed, batch, rank)``."""
        self.generator = generator_for(*entropy)


class LatentData:
    """A data set of images whose training samples are latents.

    Args:
        folder: Of ``flowgen encode``.
        images: The data set that was encoded.

    Attributes:
        encoded: The training latents; ``train`` and ``test`` are images.

    Raises:
        InputError: If the folder is no whole folder of latents, its autoencoder was changed, or the
            images, their labels, captions or classes are not those that were encoded.
    """

    def __init__(self, folder: str | Path, images: DataSet) -> None:
        place = Path(folder).expanduser()
        header = Header.read(place)
        _require_same(folder, _difference(header, images))
        # A name that is no folder would be looked for on the hub.
        if not (place / AUTOENCODER / "config.json").is_file():
            raise InputError(f"{place} has lost its autoencoder: run flowgen encode again")
        network, settings = read_autoencoder(place / AUTOENCODER)
        own = digest_of(settings, network)
        if own != header.digest:
            raise InputError(
                f"the autoencoder in {place / AUTOENCODER} is not the one that made the latents "
                f"({own}, not {header.digest}): run flowgen encode again"
            )
        self.name = f"{images.name}_latents"
        self.shape = tuple(images.shape)
        self.num_classes, self.label_names = images.num_classes, images.label_names
        self.captions = getattr(images, "captions", None)
        self.classes = getattr(images, "classes", {})
        self.images = images
        self.codec = LatentCodec(
            settings,
            header.image_shape,
            header.latent_shape,
            header.mean,
            header.std,
            header.digest,
        )
        self.codec.network.load_state_dict(network.state_dict())
        encoded = LatentSplit(place / TRAIN)
        _require_same(folder, _other_numbers(encoded, images))
        self.encoded: Split = encoded

    @property
    def train(self) -> Split:
        """The images that the training latents are of."""
        return self.images.train

    @property
    def test(self) -> Split:
        """Held-out images."""
        return self.images.test


def _require_same(folder: str | Path, difference: str) -> None:
    if difference:
        raise InputError(
            f"the latents of {folder} are of other images than data.images: {difference}; encode "
            "them again by flowgen encode"
        )


def _difference(header: Header, images: DataSet) -> str:
    """Return how a data set differs from the one that was encoded; nothing where it does not."""
    if tuple(images.shape) != header.image_shape:
        return f"shape {tuple(images.shape)}, not {header.image_shape}"
    if len(images.train) != header.num_images:
        return f"{len(images.train)} training images, not {header.num_images}"
    if image_digest(images) != header.image_digest:
        return "their pixels differ"
    for what, digest in word_digests(images).items():
        # Folders of older versions have no digests; for them the numbers of all rows are compared.
        if header.words.get(what, digest) != digest:
            return f"their {what} differ"
    return ""


def _other_numbers(encoded: LatentSplit, images: DataSet) -> str:
    """Return which numbers of images are not those beside their latents; nothing where all are.

    Captions can move between images that keep their words and pixels, so each row is looked at.
    """
    start = 0
    for batch in whole(images.train):
        stop = start + len(batch.pop("x_1"))
        for name in sorted({*batch, *encoded.others}):
            own, kept = batch.get(name), encoded.others.get(name)
            if own is None or kept is None or not torch.equal(own, kept[start:stop]):
                return f"their numbers of {name} differ"
        start = stop
    return ""


def word_digests(data: DataSet) -> dict[str, str]:
    """Return digests of captions, names of labels and names of other classes.

    Batches hold numbers of them alone, which mean something else once a list is another.

    Returns:
        By what they are of: 16 hexadecimal digits of SHA-256 each.
    """
    captions, names = getattr(data, "captions", None), data.label_names
    classes = {name: list(own) for name, own in getattr(data, "classes", {}).items()}
    lists = {
        "captions": None if captions is None else list(captions),
        "names of labels": None if names is None else list(names),
        "names of classes": classes,
    }
    return {
        what: hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:16]
        for what, own in lists.items()
    }


def image_digest(data: DataSet) -> str:
    """Return what tells training images from others: 16 hexadecimal digits of SHA-256 of some."""
    count = len(data.train)
    rows = sorted({round(i * (count - 1) / 255) for i in range(256)})
    pixels = data.train.__getitems__(rows)["x_1"]
    return hashlib.sha256(pixels.contiguous().numpy().tobytes()).hexdigest()[:16]
