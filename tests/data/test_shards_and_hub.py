"""Images from tar shards and from the Hugging Face library, and what is said of what is wrong."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from flowgen.core import InputError
from flowgen.data import DataSet, HuggingFace, WebDataset

datasets = pytest.importorskip("datasets")


def image(value):
    return Image.new("RGB", (12, 10), (value, 0, 0))


def png(value):
    with io.BytesIO() as stream:
        image(value).save(stream, "PNG")
        return stream.getvalue()


def shard(file, members):
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def values(data):
    """The red value, class and caption of every image."""
    found = {}
    for split in (data.train, data.test):
        batch = split.__getitems__(list(range(len(split))))
        for row in range(len(split)):
            red = int(batch["x_1"][row, 0, 0, 0])
            label = int(batch["label"][row]) if "label" in batch else None
            text = data.captions[batch["caption"][row]] if "caption" in batch else None
            found[red] = (label, text)
    return found


def test_shards_hold_images_classes_and_captions(tmp_path):
    for number in range(3):
        members = {}
        for i in range(4):
            own = 4 * number + i
            members[f"a/{own:02}.png"] = png(10 * own)
            members[f"a/{own:02}.cls"] = str([9, 10][own % 2]).encode()
            if own != 5:
                members[f"a/{own:02}.txt"] = f"number {own}\n".encode()
        shard(tmp_path / f"part-{number:03}.tar", members)
    data = WebDataset(str(tmp_path / "part-{000..002}.tar"), size=6, holdout=0.25)
    assert isinstance(data, DataSet)
    assert (data.shape, data.label_names) == ((3, 6, 6), ("9", "10"))
    assert len(data.test) == 4
    want = {10 * i: (i % 2, f"number {i}" if i != 5 else "") for i in range(12)}
    assert values(data) == want
    assert values(WebDataset([str(tmp_path / "*.tar")], size=6)) == want
    alone = WebDataset(str(tmp_path / "part-001.tar"), size=6, channels=1)
    assert sorted(alone.label_names) == ["10", "9"]
    assert alone.shape == (1, 6, 6)


def test_shards_without_classes_are_unlabelled_and_names_are_sorted(tmp_path):
    shard(tmp_path / "a.tar", {f"{i}.png": png(i) for i in range(4)})
    data = WebDataset(str(tmp_path / "a.tar"))
    assert data.num_classes is None
    assert data.captions is None
    named = {}
    for i in range(4):
        named |= {f"{i}.png": png(i), f"{i}.cls": [b"dog", b"cat"][i % 2]}
    shard(tmp_path / "b.tar", named)
    assert WebDataset(str(tmp_path / "b.tar")).label_names == ("cat", "dog")


def test_what_is_wrong_with_shards_is_told(tmp_path):
    shard(tmp_path / "one.tar", {"0.png": png(0)})
    shard(tmp_path / "some.tar", {"0.png": png(0), "0.cls": b"1", "1.png": png(1)})
    shard(tmp_path / "bad.tar", {"0.png": png(0), "1.png": b"none"})
    (tmp_path / "text.tar").write_text("no archive at all")
    for name, part in (
        ("one.tar", "has 1 images"),
        ("some.tar", "1 of 2 images have no .cls"),
        ("bad.tar", r"bad.tar: 1.png cannot be read"),
        ("text.tar", "no readable tar file"),
        ("{0..1}.tar", "there is no file"),
    ):
        with pytest.raises(InputError, match=part):
            WebDataset(str(tmp_path / name))
    with pytest.raises(InputError, match="at least one tar file"):
        WebDataset([])
    with pytest.raises(InputError, match="channels must be"):
        WebDataset(str(tmp_path / "one.tar"), channels=2)


@pytest.fixture(name="table")
def _table():
    rows = {
        "img": [image(10 * i) for i in range(12)],
        "kind": [i % 3 for i in range(12)],
        "text": [f"number  {i}" if i else None for i in range(12)],
    }
    features = datasets.Features(
        img=datasets.Image(),
        kind=datasets.ClassLabel(names=["c", "a", "b"]),
        text=datasets.Value("string"),
    )
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_table_of_hugging_face_keeps_its_names(table, tmp_path):
    table.save_to_disk(tmp_path / "mine")
    data = HuggingFace(str(tmp_path / "mine"), caption="text", size=[4, 6], holdout=0.25)
    assert isinstance(data, DataSet)
    assert (data.name, data.shape) == ("mine", (3, 4, 6))
    assert data.label_names == ("c", "a", "b")
    assert values(data) == {10 * i: (i % 3, f"number {i}" if i else "") for i in range(12)}
    datasets.DatasetDict(small=table).save_to_disk(tmp_path / "parts")
    assert len(HuggingFace(str(tmp_path / "parts"), split="small").train) == 9
    with pytest.raises(InputError, match="has no split 'train'"):
        HuggingFace(str(tmp_path / "parts"))


def test_a_folder_that_the_library_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("cat", "dog"):
        (tmp_path / "files" / name).mkdir(parents=True)
        for i in range(5):
            pixels = np.full((8, 8, 3), 20 * i, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "files" / name / f"{i}.png")
    data = HuggingFace(str(tmp_path / "files"), size=8)
    assert data.label_names == ("cat", "dog")
    assert len(data.train) + len(data.test) == 10


def test_what_is_wrong_with_a_table_is_told(table, tmp_path):
    table.save_to_disk(tmp_path / "mine")
    for settings, part in (
        ({"image": "photo"}, "image=photo: there is no such column; there are img, kind, text"),
        ({"label": "class"}, "label=class"),
        ({"caption": "words"}, "caption=words"),
        ({"size": 0}, "size must be"),
        ({"holdout": 1.0}, "holdout must be"),
    ):
        with pytest.raises(InputError, match=part):
            HuggingFace(str(tmp_path / "mine"), **settings)
    images = [image(0), image(1)]
    features = datasets.Features(img=datasets.Image(), second=datasets.Image())
    twice = datasets.Dataset.from_dict({"img": images, "second": images}, features=features)
    twice.save_to_disk(tmp_path / "twice")
    with pytest.raises(InputError, match="must name one of the columns img, second"):
        HuggingFace(str(tmp_path / "twice"))
    table.remove_columns("img").save_to_disk(tmp_path / "none")
    with pytest.raises(InputError, match="has no column of images"):
        HuggingFace(str(tmp_path / "none"))
    with pytest.raises(InputError, match="no data set of Hugging Face at"):
        HuggingFace(str(tmp_path / "nowhere"))
