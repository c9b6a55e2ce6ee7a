"""Captions of images in a folder: a text beside each, or one table for all.

Three layouts are read: ``1.png`` with ``1.txt``; ``captions.csv`` with the columns ``file_name``
and ``text``; ``metadata.jsonl`` with an object of these two on each line. Names in a table are
relative to the folder.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from flowgen.core import InputError

TABLES = ("captions.csv", "metadata.jsonl")
_FILE, _TEXT = "file_name", "text"


def read_captions(folder: Path, files: Sequence[Path]) -> list[str] | None:
    """Return the caption of each image, empty where it has none; None if there are none at all.

    Args:
        folder: That the names in a table are relative to.
        files: The images.

    Raises:
        InputError: If there are several tables, or one cannot be read, names what is no image, or
            names one twice.
    """
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    if len(tables) > 1:
        raise InputError(f"{folder} has {' and '.join(TABLES)}: keep one of them")
    if tables:
        return _from_table(tables[0], folder, files)
    texts = [file.with_suffix(".txt") for file in files]
    if not any(text.is_file() for text in texts):
        return None
    return [_line(text) if text.is_file() else "" for text in texts]


def _from_table(table: Path, folder: Path, files: Sequence[Path]) -> list[str]:
    known = {file.resolve(): "" for file in files}
    seen = set()
    for number, name, text in _rows(table):
        file = (folder / name).resolve()
        if file not in known:
            raise InputError(f"{table}, line {number}: {name} is no image of {folder}")
        if file in seen:
            raise InputError(f"{table}, line {number}: {name} has a caption already")
        seen.add(file)
        known[file] = " ".join(text.split())
    return [known[file.resolve()] for file in files]


def _rows(table: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, name and text of the rows of a table."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            if table.suffix == ".csv":
                reader = csv.DictReader(stream)
                for row in reader:
                    yield reader.line_num, *_cells(table, reader.line_num, row)
                return
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, *_cells(table, number, json.loads(line))
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise InputError(f"{table} cannot be read: {error}") from error


def _cells(table: Path, number: int, row: object) -> tuple[str, str]:
    found = [row.get(name) for name in (_FILE, _TEXT)] if isinstance(row, dict) else []
    if len(found) != 2 or not all(isinstance(cell, str) for cell in found):
        raise InputError(f"{table}, line {number}: give '{_FILE}' and '{_TEXT}', both text")
    return str(found[0]), str(found[1])


def _line(file: Path) -> str:
    try:
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
