"""A fitted path as a file: a JSON table of numbers with a checksum, and from there into a config.

A path that is trained with must be in the checkpoint, so that no file is needed to sample. A stored
config names classes only, none of which reads files: :func:`kinetic_schedule` is for configs that
the user composes, and :func:`schedule_config` gives the same schedule number by number, to be
stored in its place.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgen.core import InputError
from flowgen.paths import Schedule, Tabulated, Trig
from flowgen.pipeline.checkpoint import atomic
from flowgen.pipeline.stored import build_stored

KIND = "flowgen path of least kinetic energy"
FORMAT = 1

TARGET = "flowgen.pipeline.kinetic_schedule"
"""What a config calls to read a file."""

_MAX_BYTES = 1 << 22


def save_schedule(schedule: Schedule, file: Path, about: Mapping[str, Any]) -> None:
    """Write a fitted schedule.

    Args:
        schedule: What :func:`flowgen.paths.kinetic_optimal` found: a table, or :class:`Trig`.
        file: Where to.
        about: How it was found, plain data, for whoever reads the file.

    Raises:
        InputError: If it is a schedule of another kind.
    """
    if isinstance(schedule, Tabulated):
        table = {key: value for key, value in schedule.to_config().items() if key != "_target_"}
    elif isinstance(schedule, Trig):
        table = None
    else:
        raise InputError(f"a fitted path is a table or trig, got {type(schedule).__name__}")
    content = {"kind": KIND, "format": FORMAT, "schedule": table, **about}
    content["checksum"] = _checksum(content)
    with atomic(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def schedule_config(file: str | Path) -> dict[str, Any]:
    """Return the plain config of the schedule in a file, which needs the file no more.

    Raises:
        InputError: If there is no such file, or it is damaged or something else.
    """
    table = _read(Path(file).expanduser())["schedule"]
    if table is None:
        return {"_target_": "flowgen.paths.Trig"}
    if not isinstance(table, dict):
        raise InputError(f"{file} holds no table")
    return {**table, "_target_": "flowgen.paths.Tabulated"}


def kinetic_schedule(file: str) -> Schedule:
    """Return the schedule in a file that ``flowgen fit-path`` wrote.

    Raises:
        InputError: If there is no such file, or it is damaged or something else.
    """
    config = schedule_config(file)
    try:
        return build_stored(config)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _read(file: Path) -> dict[str, Any]:
    hint = "give a file of flowgen fit-path"
    try:
        size = file.stat().st_size
        content = json.loads(file.read_text(encoding="utf-8")) if size <= _MAX_BYTES else None
    except FileNotFoundError:
        raise InputError(f"no file at '{file}': {hint}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read as a fitted path: {hint}") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise InputError(f"{file} is no fitted path: {hint}")
    if content.get("format") != FORMAT:
        raise InputError(
            f"{file} is of format {content.get('format')}, this flowgen reads {FORMAT}"
        )
    told = content.pop("checksum", None)
    if told != _checksum(content):
        raise InputError(f"{file} fails its checksum: it was changed or damaged; fit it again")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    # Python writes the shortest text that reads back as the same float, so this can be repeated.
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
