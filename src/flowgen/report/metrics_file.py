"""``metrics.csv`` as curves: fast for long runs, and patient with a line that is being written."""

import csv
import warnings
from pathlib import Path

import numpy as np

from flowgen.report.series import Series


def read_metrics(path: Path) -> dict[str, Series]:
    """Return the columns of a metrics file by name, without ``step``; empty if there is no file.

    A line that does not fit the header, such as a half-written last one, is left out; a cell that
    is no number is as if empty.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    header, _, body = text.partition("\n")
    names = next(csv.reader([header]), [])
    if "step" not in names or not body:
        return {}
    lines = body.replace("\r", "").split("\n")
    if not body.endswith("\n"):
        # The last line may be cut in the middle of a number, which would still read as one.
        lines = lines[:-1]
    rows = _table(lines, len(names))
    steps = rows[:, names.index("step")]
    return {
        name: Series.of(name, steps, rows[:, i])
        for i, name in enumerate(names)
        if name and name not in ("step", "epoch")
    }


def _table(lines: list[str], width: int) -> np.ndarray:
    """Return the cells, shape ``(n, width)``: NaN where empty, infinite where not finite."""
    commas = width - 1
    whole = [line for line in lines if line.count(",") == commas]
    # One conversion of everything is many times as fast as a row at a time. The letters of 'nan'
    # and 'inf' are spoken for: an empty cell becomes NaN, a NaN that was written an infinity.
    text = f",{','.join(whole)},".lower().replace("nan", "inf")
    text = text.replace(",,", ",nan,").replace(",,", ",nan,")[1:-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # how numpy tells of a word
            flat = np.fromstring(text, sep=",")
    except (DeprecationWarning, ValueError):
        flat = np.array([_number(cell) for cell in text.split(",")])
    return flat[: len(whole) * width].reshape(len(whole), width)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
