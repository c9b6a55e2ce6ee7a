"""The pickle inside a torch archive, read once with harmless stand-ins before torch reads it.

``torch.load(weights_only=True)`` refuses foreign names, but what it does allow is enough to do harm
without code: a ``bytearray`` of a given length, storages of any size, tensors that reach beyond
their storage. So the instructions are scanned first (only those torch writes, only the names a
checkpoint needs), and the pickle is then run with stand-ins that compute the bounds of every tensor
and allocate nothing.
"""

import io
import pickle
import pickletools
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from math import prod
from typing import Any

from flowgen.pipeline.checkpoint.archive import Record
from flowgen.pipeline.checkpoint.problems import DamageError, plain

MAX_BYTES = 16 << 20
"""Largest pickle, in bytes: tensors are beside it, not in it."""

MAX_INSTRUCTIONS = 1_000_000
"""Most instructions of a pickle; about 40 are written for one tensor."""

MAX_EXPANDED = 1 << 20
"""Most elements of a tensor that repeats its storage (stride 0), which costs nothing to write."""

_INSTRUCTIONS = re.compile(
    "PROTO|STOP|GLOBAL|REDUCE|BUILD|BINPERSID|MARK|NONE|NEWFALSE|NEWTRUE|TUPLE[123]?|"
    "EMPTY_(TUPLE|LIST|DICT|SET)|APPENDS?|SETITEMS?|BININT[12]?|BINFLOAT|LONG1|"
    "BINUNICODE|SHORT_BINSTRING|(LONG_)?BIN(GET|PUT)"
)
"""Names of the instructions that torch reads too; none of them imports or calls by itself."""

_ITEM_SIZES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}
"""Bytes of an element of each kind of storage."""


def check_pickle(data: bytes, records: Mapping[str, Record]) -> None:
    """Raise unless ``data`` holds plain values and tensors that fit the archive's records.

    Args:
        data: The pickle.
        records: The records of the archive, by name.

    Raises:
        DamageError: Naming what is not allowed; whatever ``pickle`` raises.
    """
    _scan(data)
    found = _Reader(io.BytesIO(data), records).load()
    if not isinstance(found, dict):
        raise DamageError(f"it holds a {type(found).__name__}")


def _scan(data: bytes) -> None:
    """Look at the instructions without following them."""
    if len(data) > MAX_BYTES:
        raise DamageError(f"a pickle of {len(data) >> 20} MB: at most {MAX_BYTES >> 20} are read")
    kept = 0
    for number, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        name = instruction.name
        if number >= MAX_INSTRUCTIONS:
            raise DamageError(f"a pickle of more than {MAX_INSTRUCTIONS} instructions")
        if not _INSTRUCTIONS.fullmatch(name):
            raise DamageError(f"pickle instruction {name} is not allowed")
        if name == "PROTO" and argument != 2:
            raise DamageError(f"a pickle of protocol {plain(argument, 20)}, torch writes 2")
        if name == "GLOBAL" and argument not in _NAMES:
            shown = plain(argument, 60).replace(" ", ".")
            raise DamageError(f"its pickle names '{shown}', which is not allowed")
        if name in ("BINPUT", "LONG_BINPUT"):
            # The C unpickler makes room up to the index at once: 2^31 would take gigabytes.
            if int(argument or 0) > kept:
                raise DamageError("a pickle that numbers its values out of order")
            kept += 1


class _Storage:
    """Stands for a storage: how many elements it has."""

    __slots__ = ("numel",)

    def __init__(self, numel: int) -> None:
        self.numel = numel


class _Tensor:
    """Stands for a tensor that was found to lie inside its storage."""

    __slots__ = ()


class _Kind:
    """Stands for a class of storages; cannot be called."""

    __slots__ = ("item_size",)

    def __init__(self, item_size: int) -> None:
        self.item_size = item_size


class _Reader(pickle.Unpickler):
    """Unpickles with stand-ins only."""

    def __init__(self, file: io.BytesIO, records: Mapping[str, Record]) -> None:
        super().__init__(file)
        self.records = records

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name."""
        found = _NAMES.get(f"{module} {name}")
        if found is None:
            raise DamageError(f"its pickle names '{plain(module)}.{plain(name)}'")
        return found

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the stand-in for a storage, if its record has the size it says."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"):
            raise DamageError("a reference to something other than a storage")
        _, kind, key, _, numel = pid
        record = self.records.get(f"data/{key}") if isinstance(key, str) else None
        if not isinstance(kind, _Kind) or type(numel) is not int or record is None:
            raise DamageError("a storage without a record")
        if numel < 0 or numel * kind.item_size != record.size:
            raise DamageError(
                f"a storage of {plain(numel, 30)} elements on a record of {record.size} bytes"
            )
        return _Storage(numel)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> _Tensor:
    """Return the stand-in for a tensor that lies inside its storage."""
    del rest
    if not isinstance(storage, _Storage) or not all(
        isinstance(each, tuple) for each in (size, stride)
    ):
        raise DamageError("a tensor without a storage, a size or a stride")
    if len(size) != len(stride) or len(size) > 16:
        raise DamageError("a tensor with sizes and strides that do not agree")
    if any(type(each) is not int or each < 0 for each in (offset, *size, *stride)):
        raise DamageError("a tensor whose sizes are not whole numbers")
    count = prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= storage.numel or count > max(storage.numel, MAX_EXPANDED)):
        raise DamageError("a tensor that reaches beyond its storage")
    return _Tensor()


def _parameter(data: Any, *rest: Any) -> _Tensor:
    del rest
    if not isinstance(data, _Tensor):
        raise DamageError("a parameter without a tensor")
    return data


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise DamageError("bytes in an unknown encoding")
    return text.encode("latin1")


_NAMES: dict[str, Any] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "collections OrderedDict": OrderedDict,
    "collections Counter": Counter,
    "_codecs encode": _encode,
    **{f"torch {name}": _Kind(size) for name, size in _ITEM_SIZES.items()},
}
"""Every name a checkpoint may contain, with what stands for it."""
