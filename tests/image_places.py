"""Small folders of images in the layouts that the data sets read."""

import gzip
import io
import struct
import tarfile

import datasets
import numpy as np
from PIL import Image

from flowgen.data import Digits, built, write_latents
from flowgen.pipeline import atomic
from flowgen.training import small_autoencoder


def make_pictures(folder):
    """Write ``pictures/`` (two classes of PNGs) and ``fashion/`` (IDX files) into a folder."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / "pictures" / label).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / label / f"{i}.png")
    (folder / "fashion").mkdir()
    for part, count in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            name = folder / "fashion" / f"{part}-{kind}-ubyte.gz"
            name.write_bytes(gzip.compress(head + array.tobytes()))


def make_shards(folder):
    """Write ``shards.tar``, a shard of WebDataset, and ``hub/``, a set of Hugging Face."""
    rng = np.random.default_rng(1)
    rows = {"image": [], "label": []}
    with tarfile.open(folder / "shards.tar", "w") as shards:
        for i in range(24):
            image = Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8))
            rows["image"].append(image)
            rows["label"].append(i % 2)
            with io.BytesIO() as stream:
                image.save(stream, "PNG")
                _member(shards, f"{i:03}.png", stream.getvalue())
            _member(shards, f"{i:03}.cls", str(i % 2).encode())
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"])
    )
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder / "hub")


def _member(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def make_latents(folder):
    """Write ``latents/``: the digits, by an autoencoder that has learnt nothing."""
    built(small_autoencoder((1, 8, 8), channels=[16, 16])).save_pretrained(folder / "encoder")
    images = {"_target_": "flowgen.data.Digits"}
    write_latents(folder / "latents", Digits(), images, str(folder / "encoder"), atomic=atomic)
