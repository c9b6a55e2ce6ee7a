"""What was run: overrides, versions, and the whole config to fold and search."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from flowgen.report.config_text import ConfigLine
from flowgen.report.html import Markup, element, section
from flowgen.report.run_files import Run

FACTS = (
    ("experiment", "experiment"),
    ("seed", "seed"),
    ("device", "device"),
    ("commit", "commit"),
    ("flowgen", "flowgen"),
    ("torch", "torch"),
    ("lightning", "lightning"),
    ("python", "python"),
    ("platform", "platform"),
)
"""Entries of ``run.json`` that are listed, and their labels."""


def settings_section(run: Run) -> Markup:
    """Return the section of everything that made the run what it is."""
    return section("config", "Config", _facts(run), _overrides(run), _config(tuple(run.config)))


def _facts(run: Run) -> Markup | None:
    entries = []
    for key, label in FACTS:
        value = run.about.get(key)
        if value not in (None, ""):
            # A full commit is long, and its beginning names it just as well.
            text = re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28}\b", r"\1", str(value))
            pair = (element("dt", {}, label), element("dd", {"title": str(value)}, text))
            entries.append(element("div", {}, *pair))
    return element("dl", {"class": "facts"}, *entries) if entries else None


def _overrides(run: Run) -> Markup | None:
    words = run.about.get("overrides")
    if not isinstance(words, list) or not words:
        return None
    return element(
        "div",
        {"class": "overrides"},
        element("h3", {}, "Overrides"),
        element("ul", {}, *(element("li", {}, element("code", {}, str(word))) for word in words)),
    )


@lru_cache(maxsize=1)
def _config(lines: tuple[ConfigLine, ...]) -> Markup:
    # The report of a run is written again and again, and its config stays.
    if not lines:
        return element("p", {"class": "note"}, "The run folder has no config.yaml.")
    search = element(
        "input",
        {
            "type": "search",
            "id": "search",
            "placeholder": "Search: lr, trainer.max_steps, …",
            "aria-label": "Search the config",
            "autocomplete": "off",
            "spellcheck": "false",
        },
    )
    count = element("output", {"id": "found", "for": "search"})
    head = element("div", {"class": "config-head"}, element("h3", {}, "config.yaml"), search, count)
    blocks = [_block(block) for block in _blocks(lines)]
    return element("div", {"class": "config"}, head, element("div", {"class": "yaml"}, *blocks))


def _blocks(lines: Sequence[ConfigLine]) -> Iterator[list[ConfigLine]]:
    """Yield each top-level key with the lines under it."""
    block: list[ConfigLine] = []
    for line in lines:
        if line.indent == 0 and not line.dash and block:
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _block(lines: list[ConfigLine]) -> Markup:
    if len(lines) == 1:
        return _line(lines[0])
    inside = element("div", {}, *(_line(line) for line in lines[1:]))
    count = len(lines) - 1
    hint = element("small", {}, f"{count} line{'s' if count > 1 else ''}")
    return element("details", {}, element("summary", {}, _line(lines[0]), hint), inside)


def _line(line: ConfigLine) -> Markup:
    key = element("b", {}, f"{line.key}:") if line.key else None
    value = element("span", {}, f" {line.value}" if key and line.value else line.value)
    words = f"{line.path} {line.value}".lower()
    style = f"--indent:{line.indent + len(line.dash)}"
    dash = Markup("<i>-</i> ") if line.dash else None
    return element("code", {"data-words": words, "style": style}, dash, key, value)
