"""Forge files byte by byte: archives, pickles and headers that no library would write."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from flowgen.pipeline import description, save
from flowgen.pipeline.checkpoint import KEY
from small import built, vector_config


@dataclass(frozen=True)
class Case:
    """One file of the corpus: its name, what it tries, and what writes it.

    ``write`` gets the path of the file, and a path that only code that ran would create.
    """

    name: str
    tries: str
    write: Callable[[Path, Path], object]


class Call:
    """Pickles as a call of a function with arguments: what a hostile file is made of."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def state(pipeline):
    """Weights as a training checkpoint names them."""
    return {f"ema.field.{name}": value for name, value in pipeline.field.state_dict().items()}


def content(about=None):
    """The content of an honest training checkpoint, with a changed description."""
    pipeline = built(vector_config())
    return {"state_dict": state(pipeline), KEY: description(pipeline) | (about or {})}


def checkpoint(path: Path, about=None, **changes):
    """Write a training checkpoint with a changed description or changed content."""
    torch.save(content(about) | changes, path)


def exported(path: Path) -> bytes:
    """Write an honest exported file and return its bytes."""
    return save(built(vector_config()), path).read_bytes()


def archive(path: Path, data: bytes, records=None, folder="archive"):
    """Write a torch archive around a pickle, with records as raw bytes."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{folder}/data.pkl", data)
        file.writestr(f"{folder}/version", "3\n")
        file.writestr(f"{folder}/byteorder", "little")
        for name, value in (records or {}).items():
            file.writestr(f"{folder}/{name}", value)


def called(path: Path, function, *args):
    """Write a checkpoint whose description is a call."""
    archive(path, pickle.dumps({"state_dict": {}, KEY: Call(function, *args)}, 2))


def named(path: Path, module: str, name: str, arguments=b"K\x01\x85"):
    """Write a checkpoint that calls a function by its name; ``arguments`` are instructions."""
    archive(path, b"\x80\x02c" + f"{module}\n{name}\n".encode() + arguments + b"R.")


def tensor(path: Path, offset=0, size=(2,), stride=(1,), numel=4, kind="FloatStorage"):
    """Write a checkpoint of one tensor over a storage of 16 bytes."""

    def pushed(value):
        if isinstance(value, tuple):
            return b"(" + b"".join(map(pushed, value)) + b"t"
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value)) + value.encode()
        digits = value.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(digits)]) + digits

    storage = b"(" + pushed("storage") + f"ctorch\n{kind}\n".encode()
    storage += pushed("0") + pushed("cpu") + pushed(numel) + b"tQ"
    arguments = b"(" + storage + pushed(offset) + pushed(size) + pushed(stride)
    arguments += b"\x89ccollections\nOrderedDict\n)Rt"
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R."
    archive(path, data, {"data/0": b"\0" * 16})


def flipped(path: Path, data: bytes, position: int, bit: int = 0):
    """Write ``data`` with one bit of one byte turned over."""
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    path.write_bytes(bytes(changed))


def safetensors(path: Path, header, body=b"\0" * 16, length=None):
    """Write a safetensors file of any header, plain or as bytes, and of any claimed length."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(data) if length is None else length) + data + body)
