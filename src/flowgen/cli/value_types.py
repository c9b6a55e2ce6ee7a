"""Does a value fit where a default stands? The default's own type is the rule.

``null`` fits everywhere and everything fits ``null``: configs write "off" and "choose for me" that
way. A default that is a word (``auto``) admits numbers and lists too (``devices=[0,1]``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

ONE_OR_MANY = {"data.size", "data.distribution.stds", "source.stds"}
"""Settings that take one number for all or a list with one for each."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def problem_with(key: str, value: Any, default: Any) -> str | None:
    """Return why ``value`` does not fit ``key``, whose default is ``default``; None if it fits.

    Args:
        key: Dotted name, for the message.
        value: What was typed, as Hydra read it.
        default: The resolved default; ``???`` stands for a missing one.
    """
    if value is None or default is None or default == "???" or _refers(value):
        return None
    if isinstance(default, Mapping):
        if isinstance(value, Mapping):
            return None
        inner = next((name for name in default if not str(name).startswith("_")), None)
        hint = f", such as {key}.{inner}=..." if inner else ""
        return f"{key} is a section: set its parts{hint}, got {value!r}"
    if key in ONE_OR_MANY:
        one = default[0] if isinstance(default, (list, tuple)) else default
        value, default = value if isinstance(value, list) else [value], [one]
    if isinstance(default, (list, tuple)):
        return _list_problem(key, value, default)
    if isinstance(value, (list, Mapping)) and not isinstance(default, str):
        return f"{key} expects {_noun(default)}, got {_shown(value)}"
    if isinstance(default, bool):
        fits = isinstance(value, bool)
    elif isinstance(default, int):
        fits = _is_integer(value)
    elif isinstance(default, float):
        fits = _is_number(value)
    else:
        fits = not isinstance(value, Mapping)
    if fits:
        return None
    hint = ""
    if isinstance(value, float) and value.is_integer() and _is_integer(default):
        hint = f"; write {key}={int(value)}"
    return f"{key} expects {_noun(default)}, got {_shown(value)}{hint}"


def _list_problem(key: str, value: Any, default: Sequence[Any]) -> str | None:
    if not isinstance(value, list):
        return f"{key} expects a list, got {_shown(value)}; write {key}=[{value}]"
    kinds = {type(item) for item in default}
    if len(kinds) != 1:
        return None
    problems = (problem_with(f"{key}.{i}", item, default[0]) for i, item in enumerate(value))
    return next((problem for problem in problems if problem), None)


def _refers(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _noun(default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        return "an integer"
    return "a number" if isinstance(default, float) else "a word"
