"""How a file that cannot be used is told: in one line, whatever the file has put into its names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowgen.core import InputError


def plain(text: object, limit: int = 120) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters.

    What a file says about itself reaches the terminal in messages; control characters in it would
    be obeyed there.
    """
    line = " ".join(str(text).split())
    line = "".join(c if c.isprintable() else "?" for c in line[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def refusal(file: Path, reason: object = "") -> InputError:
    """Return the error for a file that is foreign or damaged."""
    shown = f" ({plain(reason)})" if str(reason) else ""
    return InputError(f"{plain(file, 400)} is not a flowgen checkpoint, or is damaged{shown}")


class DamageError(ValueError):
    """What is wrong with the content of a file, without its name."""


@contextmanager
def told_of(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong while ``file`` is read into one line that names it.

    Readers of foreign bytes fail in many ways (struct, unicode, recursion, memory, the parsers'
    own); to the user all of them are one: this file cannot be used.

    Raises:
        InputError: For any exception but an InputError, which passes as it is.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - nothing is swallowed, see above
        raise refusal(file, str(error) or type(error).__name__) from None
