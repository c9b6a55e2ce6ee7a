"""The documents of the repository, and what is to be executed in them."""

import re
import shlex
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.M | re.S
)


def name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    """The bodies of the fenced blocks of one language, in order."""
    text = page.read_text(encoding="utf-8")
    return [dedent(m["body"]) for m in _FENCE.finditer(text) if m["language"] == language]


def prose(page):
    """The text of a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(page):
    """The command lines of a page, split into words: those of its blocks, then of its prose."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    verbs = "train|sample|evaluate|edit|invert|encode|export|config|fit-[a-z]+"
    lines += re.findall(rf"`((?:flowgen (?:{verbs})|make) [^`]+)`", prose(page))
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def sessions(page):
    """Pairs of a command line and the line it answers with, from blocks that show a terminal."""
    shown = "".join(blocks(page, "text"))
    return re.findall(r"^\$ (.+)\n(.+)$", shown, re.M)


def inline_code(page):
    """The pieces of code inside the prose of a page."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page))


def links(page):
    """The targets of the relative links and pictures of a page, without anchors."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target.partition("#")[0] for target in targets if "://" not in target]
