"""Archives that lie about themselves, damaged files, and what is no file at all."""

import os
import pickle
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from flowgen.pipeline.checkpoint import KEY
from forged import Case, archive, checkpoint, flipped


def _bytes(path: Path) -> bytes:
    checkpoint(path)
    return path.read_bytes()


def _cut(path: Path, keep: float) -> None:
    data = _bytes(path)
    path.write_bytes(data[: int(len(data) * keep)])


def _zip(path: Path, change: Callable[[zipfile.ZipFile], object]) -> None:
    archive(path, pickle.dumps({"state_dict": {}, KEY: {}}, 2))
    with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a duplicate is what is wanted
        change(file)


def _link(file: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("archive/data/0")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    file.writestr(entry, "/etc/passwd")


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
        file.writestr("archive/data/0", b"\0" * (64 << 20))


def _tar(path: Path) -> None:
    other = path.with_name("inside")
    other.write_bytes(b"x")
    with tarfile.open(path, "w") as file:
        file.add(other, "../../outside")
    other.unlink()


def _marked_folder(path: Path) -> None:
    data = bytearray(_bytes(path))
    entry = data.rfind(b"PK\x01\x02", 0, data.rfind(b"data/0"))
    data[entry + 38] = 0x10
    path.write_bytes(bytes(data))


def _lying_size(path: Path) -> None:
    data = bytearray(_bytes(path))
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<2I", 1 << 30, 1 << 30)
    path.write_bytes(bytes(data))


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "data.pkl").write_bytes(b"x")


def _after(path: Path, data: bytes, position: bytes) -> None:
    flipped(path, data, data.index(position) + len(position) + 3)


ARCHIVES = (
    Case(
        "traversal.ckpt",
        "archive name that leaves its folder",
        lambda p, m: _zip(p, lambda z: z.writestr("archive/../../outside", b"x")),
    ),
    Case(
        "absolute.ckpt",
        "absolute archive name",
        lambda p, m: _zip(p, lambda z: z.writestr("/etc/outside", b"x")),
    ),
    Case(
        "backslash.ckpt",
        "archive name with backslashes",
        lambda p, m: _zip(p, lambda z: z.writestr("archive/..\\..\\outside", b"x")),
    ),
    Case(
        "two_folders.ckpt",
        "archive of two folders",
        lambda p, m: _zip(p, lambda z: z.writestr("other/notes", b"x")),
    ),
    Case(
        "duplicate.ckpt",
        "two records of one name",
        lambda p, m: _zip(p, lambda z: z.writestr("archive/version", b"4\n")),
    ),
    Case("link.ckpt", "symbolic link in the archive", lambda p, m: _zip(p, _link)),
    Case(
        "marked_folder.ckpt",
        "weight marked as a folder, whose memory torch would leave unset",
        lambda p, m: _marked_folder(p),
    ),
    Case("bomb.ckpt", "compressed record that unpacks to 64 MB", lambda p, m: _bomb(p)),
    Case("lying_size.ckpt", "record that claims 1 GB", lambda p, m: _lying_size(p)),
    Case(
        "before.ckpt",
        "program in front of the archive",
        lambda p, m: p.write_bytes(b"#!/bin/sh\ntrue\n" + _bytes(p)),
    ),
    Case(
        "behind.ckpt",
        "second archive behind the first",
        lambda p, m: p.write_bytes(_bytes(p) + _bytes(p)),
    ),
    Case(
        "no_pickle.ckpt",
        "archive without data.pkl",
        lambda p, m: archive(p, b"", folder="archive/data"),
    ),
    Case("tar.ckpt", "tar archive with a path that leaves it", lambda p, m: _tar(p)),
    Case("cut_99.ckpt", "last percent missing", lambda p, m: _cut(p, 0.99)),
    Case("cut_50.ckpt", "second half missing", lambda p, m: _cut(p, 0.5)),
    Case("cut_1.ckpt", "all but the first percent missing", lambda p, m: _cut(p, 0.01)),
    Case(
        "flip_weight.ckpt",
        "one bit of a weight turned over",
        lambda p, m: flipped(p, _bytes(p), 20_000),
    ),
    Case(
        "flip_pickle.ckpt",
        "one bit of the pickle turned over",
        lambda p, m: _after(p, _bytes(p), b"ema.field.network.embed"),
    ),
    Case("empty.ckpt", "nothing in it", lambda p, m: p.write_bytes(b"")),
    Case("text.ckpt", "text file under another name", lambda p, m: p.write_text("hello\n" * 99)),
    Case("folder.ckpt", "folder under the name of a file", lambda p, m: _folder(p)),
    Case("pipe.ckpt", "named pipe that never answers", lambda p, m: os.mkfifo(p)),
    Case("loop.ckpt", "link to itself", lambda p, m: p.symlink_to(p.name)),
    Case("device.ckpt", "link to an endless device", lambda p, m: p.symlink_to("/dev/zero")),
)
