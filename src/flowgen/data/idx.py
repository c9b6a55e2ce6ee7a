"""The IDX format of the MNIST family: a magic number, the sizes, then the bytes.

Big-endian: two zero bytes, the type (0x08 = unsigned byte), the number of axes, one 32-bit size for
each axis, and the values, last axis fastest.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from flowgen.core import InputError


def read_idx(path: Path, *, num_axes: int) -> Tensor:
    """Return the unsigned bytes of an IDX file, gzipped if its name ends in ``.gz``.

    Args:
        path: The file.
        num_axes: How many axes it must have: 3 for images, 1 for labels.

    Returns:
        A uint8 tensor of the shape in the header.

    Raises:
        InputError: Naming the file, if it cannot be read, is damaged or is of another kind.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged or unreadable ({error}): get the file again") from None
    start = 4 + 4 * num_axes
    if len(raw) < start or raw[:4] != bytes((0, 0, 8, num_axes)):
        raise InputError(
            f"{path} is not an IDX file of bytes with {num_axes} axes: its first bytes are "
            f"{raw[:4].hex() or 'missing'}"
        )
    shape = struct.unpack(f">{num_axes}I", raw[4:start])
    if len(raw) - start != math.prod(shape):
        raise InputError(
            f"{path} is damaged: {len(raw) - start} bytes of values for the sizes {shape}, "
            "get the file again"
        )
    return torch.frombuffer(bytearray(raw[start:]) or bytearray(1), dtype=torch.uint8)[
        : math.prod(shape)
    ].reshape(shape)
