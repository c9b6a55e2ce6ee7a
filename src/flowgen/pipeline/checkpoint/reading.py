"""From a file to plain data and tensors, with nothing executed and every byte accounted for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from flowgen.core import InputError
from flowgen.pipeline.checkpoint.archive import check_sums, content, records
from flowgen.pipeline.checkpoint.pickles import check_pickle
from flowgen.pipeline.checkpoint.problems import DamageError, plain, told_of
from flowgen.pipeline.checkpoint.tensors_file import read_tensors


def verify(path: str | Path) -> None:
    """Read a checkpoint file to its last byte and raise if anything in it is not as written.

    Args:
        path: A training checkpoint (``.ckpt``) or an exported ``.safetensors`` file.

    Raises:
        InputError: If it is missing, foreign or damaged.
    """
    file = Path(path)
    with told_of(file), opened(file) as stream:
        if file.suffix == ".safetensors":
            read_tensors(file, stream)
        else:
            _deserialised(stream, "meta")


def read_training_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the whole content of a training checkpoint: plain containers, numbers and tensors.

    The layout of the archive, the checksum of every record, the names in the pickle and the bounds
    of every tensor are checked before torch deserialises the file with ``weights_only=True``.

    Args:
        path: The ``.ckpt`` file.

    Raises:
        InputError: If it is missing, foreign or damaged, or would run code.
    """
    file = Path(path)
    with told_of(file), opened(file) as stream:
        return _deserialised(stream, "cpu")


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """Open an ordinary file for reading; never waits, as opening a pipe would.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    try:
        ordinary = file.is_file()
        stream = file.open("rb") if ordinary else None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read '{plain(file, 400)}': {plain(reason)}") from None
    if stream is None:
        raise InputError(f"no checkpoint at '{plain(file, 400)}': give a checkpoint file")
    with stream:
        if os.fstat(stream.fileno()).st_size == 0:
            raise DamageError("the file is empty")
        yield stream


def _deserialised(stream: BinaryIO, device: str) -> dict[str, Any]:
    """The content of an archive once all of it is checked; on ``meta`` no tensor takes memory."""
    found = records(stream)
    if "data.pkl" not in found:
        raise DamageError("the archive has no data.pkl")
    check_sums(stream, found)
    check_pickle(content(stream, found["data.pkl"]), found)
    stream.seek(0)
    return torch.load(stream, map_location=device, weights_only=True)
