"""The one place that writes to standard output."""

import sys


def say(text: str) -> None:
    """Write a line (or several) to standard output, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
