"""``flowgen doctor``: look at this machine and say what would go wrong, and what to do."""

import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from flowgen.cli.errors import UsageError
from flowgen.cli.help_text import width
from flowgen.cli.suggest import did_you_mean

_SICK = 1
_SIGNS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def help_text() -> str:
    """Return the text of ``flowgen doctor --help``."""
    return """usage: flowgen doctor [PART ...]

Looks at versions, device, kernels, data, logger and disk, and says what to do about what is not
well. Nothing is written or downloaded. Exit code 1 if there is a problem, 0 with notes only.

  flowgen doctor                    everything
  flowgen doctor device kernels     these parts
"""


def run(words: Sequence[str], config_dir: Path) -> int:
    """Examine and report; return 1 if something will fail.

    Args:
        words: Names of the parts to look at; none means all.
        config_dir: Not used.

    Raises:
        UsageError: If there is no such part.
    """
    from flowgen.cli.examinations import EXAMINATIONS

    del config_dir
    for word in words:
        if word not in EXAMINATIONS:
            hint = did_you_mean(word, EXAMINATIONS) or f"; parts: {', '.join(EXAMINATIONS)}"
            raise UsageError(f"no part '{word}'{hint}")
    counts = dict.fromkeys(_SIGNS, 0)
    for name, examine in EXAMINATIONS.items():
        if words and name not in words:
            continue
        sys.stdout.write(f"{name}\n")
        for finding in examine():
            counts[finding.level] += 1
            sys.stdout.write(f"  {_SIGNS[finding.level]}  {finding.text}\n")
            if finding.advice:
                indent = " " * 11
                text = f"-> {finding.advice}"
                sys.stdout.write(
                    fill(text, width(), initial_indent=indent, subsequent_indent=indent + "   ")
                    + "\n"
                )
        sys.stdout.flush()
    sys.stdout.write(
        f"{counts['ok']} ok, {_number(counts['note'], 'note')}, "
        f"{_number(counts['problem'], 'problem')}\n"
    )
    return _SICK if counts["problem"] else 0


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
