"""A plain YAML config as lines that know their dotted key, without a YAML parser.

Enough for what flowgen writes (block mappings, lists, scalars); any other text is shown as it is.
"""

import re
from dataclasses import dataclass

_LINE = re.compile(
    r"(?P<indent> *)(?P<dash>(?:- +)*)(?:(?P<key>[^\s:#'\"][^:#]*):(?= |$))?(?P<rest>.*)"
)


@dataclass(frozen=True)
class ConfigLine:
    """One line of a config.

    Args:
        indent: Spaces before it.
        dash: ``"- "`` where it begins an item of a list, else empty.
        key: Its own key, or empty.
        value: What stands after the key.
        path: Dotted key from the top, e.g. ``trainer.max_steps``; empty if it has none.
    """

    indent: int
    dash: str
    key: str
    value: str
    path: str


def config_lines(text: str) -> list[ConfigLine]:
    """Return the lines of a config, blank ones left out."""
    lines: list[ConfigLine] = []
    parents: list[tuple[int, str]] = []
    for raw in text.splitlines():
        if not raw.strip():
            continue
        match = _LINE.fullmatch(raw)
        assert match is not None  # every part may be empty
        indent = len(match["indent"])
        depth = indent + len(match["dash"])
        while parents and parents[-1][0] >= depth:
            parents.pop()
        key = match["key"] or ""
        path = ".".join([*(name for _, name in parents), key]) if key else ""
        if key:
            parents.append((depth, key))
        lines.append(ConfigLine(indent, match["dash"], key, match["rest"].strip(), path))
    return lines


def setting(lines: list[ConfigLine], path: str) -> str | None:
    """Return the scalar at a dotted key as text, None if it is absent, empty or ``null``."""
    for line in lines:
        if line.path == path:
            value = re.sub(r"\s+#.*", "", line.value).strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            return None if value in ("", "null", "~") else value
    return None
