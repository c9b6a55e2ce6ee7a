"""Small folders of images in the layouts that the data sets read."""

import gzip
import struct

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


def make_latents(folder):
    """Write ``latents/``: the digits, by an autoencoder that has learnt nothing."""
    built(small_autoencoder((1, 8, 8), channels=[16, 16])).save_pretrained(folder / "encoder")
    images = {"_target_": "flowgen.data.Digits"}
    write_latents(folder / "latents", Digits(), images, str(folder / "encoder"), atomic=atomic)
