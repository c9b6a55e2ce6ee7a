"""``report.html`` on disk: whole, or as it was before."""

import os
import tempfile
from datetime import datetime
from pathlib import Path

from flowgen.report.page import render
from flowgen.report.run_files import is_run, read_run

REPORT = "report.html"
"""Name of the report inside a run folder."""


def write_report(
    folder: str | Path, out: str | Path | None = None, *, now: datetime | None = None
) -> Path:
    """Write the report of a run and return where it is.

    Args:
        folder: The run folder; the run may still be training.
        out: File to write; None is ``report.html`` inside the run folder.
        now: Time with zone that the page shows as its last update; None takes the clock.

    Raises:
        InputError: If the folder is not one of a run.
    """
    folder = Path(folder)
    if not is_run(folder):
        # Not imported above: looking at a report should not wait for torch.
        from flowgen.core import InputError

        raise InputError(f"no run in '{folder}': give a run folder, such as runs/<name>/<time>")
    path = folder / REPORT if out is None else Path(out)
    text = render(read_run(folder), now=now)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
