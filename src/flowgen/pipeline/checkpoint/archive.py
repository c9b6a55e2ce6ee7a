"""The zip archive that ``torch.save`` writes, checked before anything in it is deserialised.

torch.load does not look at the CRC-32 that stands beside every record, so that a flipped bit would
pass as a weight. Here every record is read once and compared. The layout is held to what torch
writes: records stored one after another from the first byte, the directory behind them, its end
record last. Two zip readers can then not see two different archives in one file.
"""

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from flowgen.pipeline.checkpoint.problems import DamageError, plain

MAX_RECORDS = 100_000
"""Most records in an archive: one for each tensor and a handful more."""

_NAME = re.compile(r"[^/\\\x00]+(/[A-Za-z0-9_.]+)+")
_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_DESCRIPTORS = (12, 16, 20, 24)
_FLAGS = 0x0808  # sizes behind the record, names in UTF-8
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Record:
    """One stored record: where its bytes are, how many, and their CRC-32."""

    start: int
    size: int
    crc: int


def records(file: BinaryIO) -> dict[str, Record]:
    """Return the records of an archive by their name inside its one folder, e.g. ``data/0``.

    Args:
        file: The open archive.

    Raises:
        DamageError: If the layout is not what torch writes; whatever ``zipfile`` raises.
    """
    directory = _directory_start(file)
    with zipfile.ZipFile(file) as opened:
        entries = sorted(opened.infolist(), key=lambda entry: entry.header_offset)
    found: dict[str, Record] = {}
    folders: set[str] = set()
    expected, gaps = 0, (0,)
    for entry in entries:
        _check_entry(entry)
        if entry.header_offset - expected not in gaps:
            raise DamageError(f"record '{plain(entry.filename, 40)}' does not follow the others")
        start = _data_start(file, entry)
        expected = start + entry.file_size
        gaps = _DESCRIPTORS if entry.flag_bits & 8 else (0,)
        folder, _, name = entry.filename.partition("/")
        if name in found:
            raise DamageError(f"two records are named '{plain(name, 40)}'")
        folders.add(folder)
        found[name] = Record(start, entry.file_size, entry.CRC)
    if directory - expected not in gaps:
        raise DamageError("the directory of the archive does not follow its records")
    if len(folders) != 1:
        raise DamageError("the records are not in one folder")
    return found


def check_sums(file: BinaryIO, found: dict[str, Record]) -> None:
    """Read every record once and compare its CRC-32.

    Raises:
        DamageError: Naming the first record that is not what was written.
    """
    for name, record in found.items():
        crc = 0
        for part in _parts(file, record):
            crc = zlib.crc32(part, crc)
        if crc != record.crc:
            raise DamageError(f"record '{plain(name, 40)}' fails its checksum")


def content(file: BinaryIO, record: Record) -> bytes:
    """Return the bytes of a record."""
    return b"".join(_parts(file, record))


def _parts(file: BinaryIO, record: Record) -> Iterator[bytes]:
    file.seek(record.start)
    left = record.size
    while left:
        part = file.read(min(left, _CHUNK))
        if not part:
            raise DamageError("the file ends inside a record")
        left -= len(part)
        yield part


def _directory_start(file: BinaryIO) -> int:
    """Where the directory begins, if it is followed by its end records and nothing else."""
    size = file.seek(0, os.SEEK_END)
    tail = _END64.size + _LOCATOR64.size + _END.size
    file.seek(max(0, size - tail))
    last = file.read(tail)
    if len(last) < _END.size or last[-_END.size :][:4] != b"PK\x05\x06":
        raise DamageError("no torch archive, or cut off")
    _, *_, count, length, start, comment = _END.unpack(last[-_END.size :])
    behind = _END.size
    if last[:4] == b"PK\x06\x06" and len(last) == tail:
        *_, count, length, start = _END64.unpack(last[: _END64.size])
        behind = tail
    if comment or start + length + behind != size:
        raise DamageError("the archive has something before or after it")
    if count > MAX_RECORDS or length > MAX_RECORDS * 1000:
        raise DamageError(f"more than {MAX_RECORDS} records")
    return start


def _check_entry(entry: zipfile.ZipInfo) -> None:
    shown = plain(entry.orig_filename, 40)
    if entry.orig_filename != entry.filename or not _NAME.fullmatch(entry.filename):
        raise DamageError(f"'{shown}' is no name of a record")
    if any(not part.strip(".") for part in entry.filename.split("/")):
        raise DamageError(f"'{shown}' leaves the archive")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or entry.external_attr & 0xFFFF or entry.internal_attr:
        # torch reads nothing into a tensor whose record is marked as a folder, and says nothing.
        raise DamageError(f"record '{shown}' is a link, a folder or a device")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise DamageError(f"record '{shown}' is compressed")
    if entry.flag_bits & ~_FLAGS or entry.volume or entry.comment:
        raise DamageError(f"record '{shown}' is encrypted, split or not of torch's making")


def _data_start(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of an entry begin; its own header must agree with the directory."""
    file.seek(entry.header_offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size:
        raise DamageError("the file ends inside a header")
    signature, _, _, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack(head)
    name = file.read(name_length)
    if signature != b"PK\x03\x04" or method or name != entry.filename.encode():
        raise DamageError(f"the header of '{plain(entry.filename, 40)}' contradicts the directory")
    return entry.header_offset + _LOCAL.size + name_length + extra_length
