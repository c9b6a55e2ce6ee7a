"""Image files of any size and mode to uint8 arrays of one shape.

Order matters: turn by the EXIF tag, composite transparency on white, bring to 8 bits, then crop the
centre to the wanted aspect and resize once, with a filter that widens when it shrinks (antialias).
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".apng", ".webp", ".avif", ".gif"),
        *(".bmp", ".dib", ".tif", ".tiff", ".tga", ".pcx", ".sgi", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)


def find_images(root: Path) -> list[Path]:
    """Return the image files below ``root``, by suffix, sorted by relative path.

    Hidden files and folders are passed over; links to folders are followed, once each.
    """
    found = sorted(_walk(root), key=lambda path: path.relative_to(root).as_posix())
    return [path for path in found if path.suffix.lower() in SUFFIXES]


def _walk(root: Path) -> Iterator[Path]:
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in files if not name.startswith("."))


def read_image(path: Path | io.BytesIO, *, size: tuple[int, int], channels: int) -> Tensor:
    """Return the image as uint8 ``(channels, h, w)``: shortest side resized, centre cropped.

    Args:
        path: A file of any size and mode, or its bytes as a stream; of an animation the first
            frame is taken.
        size: Height and width in pixels.
        channels: 3 for colour, 1 for grey.

    Raises:
        ValueError: With the reason, if the file is not a readable image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            # A JPEG may be decoded at 1/2, 1/4 or 1/8: many times faster for photographs.
            image.draft(None, (2 * max(size), 2 * max(size)))
            return pixels_of(image, size=size, channels=channels)
    except (
        OSError,
        ValueError,
        SyntaxError,  # Pillow's word for a broken PNG
        EOFError,
        IndexError,
        TypeError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def pixels_of(image: "Image.Image", *, size: tuple[int, int], channels: int) -> Tensor:
    """Return an opened image as :func:`read_image` does.

    Raises:
        ValueError: If its pixels have no known range; whatever Pillow raises for a broken one.
    """
    from PIL import Image, ImageOps

    height, width = size
    opaque = _to_8_bits(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    fitted = ImageOps.fit(opaque, (width, height), Image.Resampling.BICUBIC)
    pixels = torch.frombuffer(bytearray(fitted.tobytes()), dtype=torch.uint8)
    return pixels.reshape(height, width, channels).permute(2, 0, 1).contiguous()


def _to_8_bits(image: "Image.Image", mode: str) -> "Image.Image":
    """Return ``image`` in ``mode`` (L or RGB), with transparency composited on white."""
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise ValueError(
            "pixels are 32-bit floats, whose range is unknown: save it as 8 or 16 bits"
        )
    if image.mode.startswith("I"):  # 16 bits, which Pillow opens as I or I;16
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("pixels are 32-bit integers: save it as 8 or 16 bits")
        image = Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layer)
    # Through RGB, because some modes (palette with alpha, Lab) have no direct road to grey.
    return image if image.mode == mode else image.convert("RGB").convert(mode)
