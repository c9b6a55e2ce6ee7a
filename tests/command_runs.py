"""Command lines in a process that a test has started."""

import contextlib
import io
import os

from flowgen.cli.main import main


def commands(folder, *lines):
    """Run command lines in a folder; return what they print and their exit codes."""
    os.chdir(folder)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        codes = [_run(line, number) for number, line in enumerate(lines)]
    return codes, out.getvalue()


def _run(line, number):
    """Every command meets at a port of its own: the one before may not have left the last."""
    if "MASTER_PORT" not in os.environ:
        return main(line)
    first = os.environ["MASTER_PORT"]
    os.environ["MASTER_PORT"] = str(int(first) + number)
    try:
        return main(line)
    finally:
        os.environ["MASTER_PORT"] = first
