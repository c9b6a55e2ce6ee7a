"""Names, files and folders are text, though a folder is called ``2026`` and a run ``1e3``."""

import re
from collections.abc import Iterable

NAMES = frozenset(
    ("name", "run_dir", "resume", "checkpoint", "teacher", "out", "images", "noise", "mask")
    + ("autoencoder", "pretrained", "push_to_hub", "logger.name", "logger.entity", "logger.group")
    + ("data.name", "data.path", "data.shards", "model.path", "text_encoder.path")
)
"""Settings that hold text, by their whole name."""

LAST = frozenset(("file", "folder", "root", "cache", "checkpoint"))
"""Last parts of the names of settings that hold text."""

_PLAIN = re.compile(r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d+)(e[+-]?\d+)?|true|false|inf|nan", re.IGNORECASE)


def as_text(words: Iterable[str]) -> list[str]:
    """Return words of a command line with quotes where Hydra would read a name as a number.

    Args:
        words: ``key=value`` among others; several values for a sweep are parted by commas.
    """
    return [_quoted(word) for word in words]


def _quoted(word: str) -> str:
    key, equals, text = word.partition("=")
    name = key.lstrip("+")
    if not equals or not (name in NAMES or name.rpartition(".")[2] in LAST):
        return word
    values = text.split(",")
    if not any(_PLAIN.fullmatch(value) for value in values):
        return word
    return f"{key}=" + ",".join(f"'{v}'" if _PLAIN.fullmatch(v) else v for v in values)
