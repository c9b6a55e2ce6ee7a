"""Captions of images in folders, in three layouts."""

import json

import numpy as np
import pytest
from PIL import Image

from flowgen.core import InputError
from flowgen.data import ImageFolder
from flowgen.data.captions import read_captions


@pytest.fixture(name="folder")
def _folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.jpg", "d.png"):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path


def files(folder):
    return [folder / name for name in ("a.png", "b.png", "c.jpg", "d.png")]


def test_without_any_there_are_none(folder):
    assert read_captions(folder, files(folder)) is None
    assert ImageFolder(folder, size=8).captions is None


def test_texts_beside_images(folder):
    (folder / "a.txt").write_text("a red\n heart \n")
    (folder / "c.txt").write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9")
    assert read_captions(folder, files(folder)) == ["a red heart", "", "café", ""]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_tables(folder, kind):
    rows = [("c.jpg", "blue, square"), ("a.png", "red heart"), ("b.png", "red heart")]
    if kind == "csv":
        lines = ["file_name,text", *(f'{name},"{text}"' for name, text in rows)]
        (folder / "captions.csv").write_text("\n".join(lines))
    else:
        lines = [json.dumps({"file_name": name, "text": text, "x": 1}) for name, text in rows]
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    found = ["red heart", "red heart", "blue, square", ""]
    assert read_captions(folder, files(folder)) == found
    data = ImageFolder(folder, size=8, holdout=0.5)
    assert data.captions == ("red heart", "blue, square", "")
    for split in (data.train, data.test):
        batch = split.__getitems__(list(range(len(split))))
        assert batch["caption"].shape == (len(split),)
    both = [*data.train.__getitems__([0, 1])["caption"], *data.test.__getitems__([0, 1])["caption"]]
    assert sorted(int(i) for i in both) == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("captions.csv", "file,text\na.png,x", "line 2: give 'file_name' and 'text'"),
        ("captions.csv", "file_name,text\nz.png,x", "line 2: z.png is no image"),
        ("captions.csv", "file_name,text\na.png,x\na.png,y", "line 3: a.png has a caption already"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": 3}', "line 1: give 'file_name'"),
        ("metadata.jsonl", "[1]", "line 1: give 'file_name'"),
        ("metadata.jsonl", "{", "cannot be read"),
        ("captions.csv", b"file_name,text\na.png,\xff", "cannot be read"),
        ("a.txt", b"\xff", "a.txt cannot be read"),
    ],
)
def test_bad_tables_are_told_by_line(folder, name, content, rule):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    with pytest.raises(InputError, match=rule):
        ImageFolder(folder, size=8)


def test_two_tables_are_one_too_many(folder):
    (folder / "captions.csv").write_text("file_name,text\n")
    (folder / "metadata.jsonl").write_text("")
    with pytest.raises(InputError, match=r"has captions\.csv and metadata\.jsonl"):
        ImageFolder(folder, size=8)
