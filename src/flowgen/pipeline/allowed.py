"""Which classes a stored config may name, and what it may look like.

Whoever wrote a file chose the names in it. A name is taken apart at its last dot: the front must be
an allowed module of ours or torch's, the end a public class *defined* in an allowed package. No
attribute is followed, so that a walk such as ``DiT.__init__.__globals__`` leads nowhere, and only
plain ASCII letters count, so that a look-alike is another name.
"""

import importlib
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from flowgen.core import InputError

PIPELINE = (
    "flowgen.paths",
    "flowgen.models",
    "flowgen.integrators",
    "flowgen.data.codecs",
    "flowgen.data.data_source",
    "flowgen.data.latent_codec",
    "flowgen.data.mixtures",
    "flowgen.data.sources",
    "flowgen.data.toy",
    "flowgen.pipeline.pipeline",
    "flowgen.text.minilm",
    "torch.nn.modules",
)
"""Where classes are defined that a stored pipeline may name: none writes, fetches or reads what
a config names; MiniLM reads the files of its own package."""

DATA = ("flowgen.data",)
"""Where the classes are defined that a stored data set may name: some read files, none writes."""

MAX_DEPTH = 32
"""Deepest nesting of a stored config."""

MAX_VALUES = 100_000
"""Most values in a stored config."""

MAX_TEXT = 10_000
"""Longest text in a stored config, in characters."""

MAX_INTEGER = 10_000_000
"""Largest whole number in a stored config, seeds apart: more steps or features are a bomb."""

MAX_SAMPLE = 1 << 24
"""Most numbers in one sample that a stored config may ask for."""

_NAME = re.compile(r"(flowgen|torch\.nn)(\.[A-Za-z_][A-Za-z0-9_]*)*\.[A-Z][A-Za-z0-9_]*")
_ENTRANCES = ("flowgen.data", "flowgen.pipeline", "flowgen.text", "torch.nn")
_TRUST = "pass trust_code=True only if you trust whoever wrote this file"


def resolve(name: str, allowed: Sequence[str] = PIPELINE) -> type | None:
    """Return the class that ``name`` means if it is allowed, else None. Nothing is called."""
    if not _NAME.fullmatch(name) or "__" in name:
        return None
    module, _, last = name.rpartition(".")
    if module not in _ENTRANCES and not _inside(module, allowed):
        return None
    try:
        # Only our own modules are imported for a name; torch.nn is there already.
        found = vars(
            importlib.import_module(module) if name[0] == "f" else sys.modules[module]
        ).get(last)
    except (ImportError, KeyError):
        return None
    if isinstance(found, type) and _inside(found.__module__, allowed):
        return found
    return None


def check_plain(config: Any, where: str = "") -> None:
    """Raise unless ``config`` is nested dicts and lists of a sane size, with nothing in disguise.

    Args:
        config: What a file holds.
        where: How its top is called in messages.

    Raises:
        InputError: Naming the first place that is too deep, too long or no plain value.
    """
    for count, (place, value, depth) in enumerate(_walk(config, where)):
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise InputError(
                f"{shorten(where or 'the config')}: more than {MAX_VALUES} values or "
                f"{MAX_DEPTH} levels, which no stored config has"
            )
        if problem := _problem(place, value):
            raise InputError(f"{shorten(place) or 'top level'}: {problem}")


def check_targets(config: Any, allowed: Sequence[str] = PIPELINE) -> None:
    """Raise unless every ``_target_`` is a class defined in an allowed package.

    Raises:
        InputError: Naming the place and what is not allowed there.
    """
    check_plain(config)
    for place, value, _ in _walk(config, ""):
        if not isinstance(value, Mapping) or "_target_" not in value:
            continue
        name = value["_target_"]
        where = shorten(place) or "top level"
        if not isinstance(name, str):
            raise InputError(f"{where}: _target_ must be the name of a class, got {kind(name)}")
        if resolve(name, allowed) is None:
            raise InputError(
                f"{where}: target '{shorten(name)}' is not a class of flowgen's or torch.nn's "
                f"that may stand here; {_TRUST}"
            )


def shorten(text: str, limit: int = 80) -> str:
    """Return ``text`` short and in printable ASCII, so that a look-alike shows in a message."""
    text = text if len(text) <= limit else f"{text[: limit - 3]}..."
    return "".join(
        c if c.isascii() and c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def kind(value: Any) -> str:
    """Return the name of a value's type, as messages tell it."""
    return "nothing" if value is None else type(value).__name__


def _inside(module: str, allowed: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in allowed)


def _walk(value: Any, where: str) -> Iterator[tuple[str, Any, int]]:
    """Yield ``(place, value, depth)`` in order, parents first, one level beyond what is allowed."""
    waiting = [(where, value, 0)]
    while waiting:
        place, value, depth = waiting.pop()
        yield place, value, depth
        if depth > MAX_DEPTH:
            continue
        if isinstance(value, Mapping):
            front = f"{place}." if place else ""
            inside = [(f"{front}{key}", item, depth + 1) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            inside = [(f"{place}[{i}]", item, depth + 1) for i, item in enumerate(value)]
        else:
            continue
        waiting += reversed(inside)


def _problem(place: str, value: Any) -> str | None:
    """What is wrong with one value, without those inside it."""
    if isinstance(value, Mapping):
        texts = list(value)
        if odd := next((key for key in texts if not isinstance(key, str)), None):
            return f"keys must be text, got {kind(odd)}"
    else:
        texts = [value] if isinstance(value, str) else []
    for text in texts:
        if problem := _bad_text(text):
            return problem
    if isinstance(value, int) and abs(value) > MAX_INTEGER and not place.endswith("seed"):
        return f"{str(value)[:20]} is larger than {MAX_INTEGER}, which no stored config has"
    if place.split(".")[-1] == "shape" and isinstance(value, list | tuple):
        sizes = [abs(n) for n in value if isinstance(n, int)]
        if len(sizes) > 16 or prod(sizes) > MAX_SAMPLE:
            return f"samples of more than {MAX_SAMPLE} numbers"
    if value is None or isinstance(value, Mapping | list | tuple | str | bool | int | float):
        return None
    return f"must be plain data, got {kind(value)}"


def _bad_text(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"keys must be text, got {kind(text)}"
    if len(text) > MAX_TEXT:
        return f"a text of {len(text)} characters, at most {MAX_TEXT} are read"
    if "${" in text:
        return (
            f"'{shorten(text, 60)}' refers to another value, which no stored config does; {_TRUST}"
        )
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
        return f"'{shorten(text, 60)}' holds control characters"
    return None
