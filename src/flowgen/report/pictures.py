"""Sample pictures for the page: chosen evenly, and made small enough to travel inside it."""

import base64
import struct
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

MOST_PICTURES = 40
"""Most pictures on a page; the first and the last are always among them."""

MOST_BYTES = 200_000
"""A larger picture file is reduced."""

WIDTHS = (1280, 960, 640)
"""Widths in pixels tried one after the other until a reduced picture is small enough."""

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A picture as the page holds it.

    Args:
        uri: ``data:`` address.
        width: In pixels.
        height: In pixels.
    """

    uri: str
    width: int
    height: int


def chosen(steps: list[int], most: int = MOST_PICTURES) -> list[int]:
    """Return at most ``most`` of the ascending steps, evenly by their order, both ends kept.

    Args:
        steps: Steps with a picture.
        most: At least 2.
    """
    if len(steps) <= most:
        return steps
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def picture(path: Path) -> Picture | None:
    """Return a PNG file as the page holds it, None if it cannot be read or is half-written."""
    try:
        about = path.stat()
        return _read(path, about.st_mtime_ns, about.st_size)
    except OSError:
        return None


# A run rebuilds its report many times, and a picture never changes once written.
@lru_cache(maxsize=2 * MOST_PICTURES)
def _read(path: Path, modified: int, size: int) -> Picture | None:
    del modified
    content = path.read_bytes()
    if content[:8] != _PNG or content[12:16] != b"IHDR" or b"IEND" not in content[-12:]:
        return None
    width, height = struct.unpack(">II", content[16:24])
    if size <= MOST_BYTES:
        return Picture(_uri(content, "png"), width, height)
    return _reduced(content)


def _reduced(content: bytes) -> Picture | None:
    from PIL import Image

    made = None
    try:
        with Image.open(BytesIO(content)) as image:
            whole = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    for width in WIDTHS:
        ratio = min(1.0, width / whole.width)
        size = (max(1, round(whole.width * ratio)), max(1, round(whole.height * ratio)))
        out = BytesIO()
        whole.resize(size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=82, optimize=True)
        made = Picture(_uri(out.getvalue(), "jpeg"), *size)
        if out.tell() <= MOST_BYTES:
            break
    return made


def _uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
