"""Images from tar shards and from the Hugging Face library, and what is said of what is wrong."""

import gzip
import io
import shutil
import subprocess
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


def shard(file, members, mode="w"):
    with tarfile.open(str(file), mode) as archive:
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
    # An image in blocks of 512 bytes: a header, the pixels, zeros; at the end two blocks of zeros.
    shard(tmp_path / "whole.tar", {f"{i}.png": png(i) for i in range(4)})
    good = (tmp_path / "whole.tar").read_bytes()
    assert len(png(0)) <= 512
    third = 2 * 1024
    header = good[: third + 100] + b"?" + good[third + 101 :]
    zeroed = good[:third] + bytes(512) + good[third + 512 :]
    packed = gzip.compress(good)
    for name, content in (
        ("header.tar", header),
        ("zeroed.tar", zeroed),
        ("cut.tar", good[:third]),
        ("cut_header.tar", good[: third + 100]),
        ("cut_image.tar", good[: third + 520]),
        ("two.tar", good + good),
        ("crc.tar", packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]),
        ("size.tar", packed[:-4] + bytes([packed[-4] ^ 1]) + packed[-3:]),
        ("cut.tar.gz", packed[:-6]),
        ("more.tar.gz", packed + b"more"),
    ):
        (tmp_path / name).write_bytes(content)
    for name, part in (
        ("header.tar", "header.tar is no readable tar file: damaged or cut short, bad checksum"),
        ("zeroed.tar", "zeroed.tar is no readable tar file: damaged, there is more after"),
        ("cut.tar", "cut.tar is no readable tar file: damaged or cut short, empty header"),
        ("cut_header.tar", "cut_header.tar is no readable tar file: damaged or cut short, trunc"),
        ("cut_image.tar", "cut_image.tar is no readable tar file: unexpected end of data"),
        ("two.tar", "two.tar is no readable tar file: damaged, there is more after its end"),
        ("crc.tar", "crc.tar is no readable tar file: CRC check failed"),
        ("size.tar", "size.tar is no readable tar file: Incorrect length"),
        ("cut.tar.gz", "cut.tar.gz is no readable tar file: Compressed file ended"),
        ("more.tar.gz", "more.tar.gz is no readable tar file: Not a gzipped file"),
        ("one.tar", "has 1 images"),
        ("some.tar", "1 of 2 images have no .cls"),
        ("bad.tar", r"bad.tar: 1.png cannot be read: .*cannot identify image file$"),
        ("text.tar", "no readable tar file: file could not be opened successfully$"),
        ("{0..1}.tar", "there is no file"),
    ):
        with pytest.raises(InputError, match=part):
            WebDataset(str(tmp_path / name))
    # No damage of a compressed shard is another error, or a few images less.
    for place in range(10, len(packed), 7):
        bad = packed[:place] + bytes([packed[place] ^ 0x55]) + packed[place + 1 :]
        (tmp_path / "bit.tar").write_bytes(bad)
        with pytest.raises(InputError, match="bit.tar") as told:
            WebDataset(str(tmp_path / "bit.tar"))
        assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="at least one tar file"):
        WebDataset([])
    with pytest.raises(InputError, match="channels must be"):
        WebDataset(str(tmp_path / "one.tar"), channels=2)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
def test_shards_of_tar_pass(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    for form in ([], ["--format=ustar"], ["--format=pax"]):
        for pack in ("-cf", "-czf"):
            line = ["tar", *form, pack, "a.tar", *(f"./{i}.png" for i in range(4))]
            subprocess.run(line, cwd=tmp_path, check=True)
            assert sorted(values(WebDataset(str(tmp_path / "a.tar")))) == [0, 1, 2, 3]


def test_whole_shards_of_tarfile_pass_whatever_their_compression(tmp_path):
    members = {f"{'deep/' * 30}{i}.png": png(i) for i in range(4)}
    for kind in ("", "gz", "bz2", "xz"):
        for mode in ("w:", "w|"):
            shard(tmp_path / "a.tar", members, mode + kind)
            assert sorted(values(WebDataset(str(tmp_path / "a.tar")))) == [0, 1, 2, 3]
    # GNU tar reads an archive with one block of zeros, too: no member is missing.
    shard(tmp_path / "a.tar", members)
    content = (tmp_path / "a.tar").read_bytes().rstrip(b"\0")
    end = -len(content) % 512 + 512
    (tmp_path / "a.tar").write_bytes(content + bytes(end))
    assert sorted(values(WebDataset(str(tmp_path / "a.tar")))) == [0, 1, 2, 3]


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
    features = table.features | {"words": datasets.List(datasets.Value("string"))}
    broken = {"bytes": b"none", "path": None}
    for column, value, part in (
        ("kind", -1, "mine.: kind has no class for row 7, got -1: give all rows one"),
        ("kind", None, "mine.: kind has no class for row 7, got None"),
        ("words", ["x", "y"], r"mine.: words must be one text a row, got \['x', 'y'\] in row 7"),
        ("img", broken, "mine.: image 7 cannot be read: cannot identify image file$"),
        ("img", None, "mine.: image 7 cannot be read: expected an image, got None"),
    ):
        rows = {name: list(table[name]) for name in table.features} | {"words": [None] * 12}
        rows[column][7] = value
        own = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        folder = tmp_path / f"mine{len(list(tmp_path.iterdir()))}"
        own.save_to_disk(folder)
        with pytest.raises(InputError, match=part):
            HuggingFace(str(folder), caption="words")
    own.remove_columns("kind").add_column("kind", ["a", None] * 6).save_to_disk(tmp_path / "gap")
    with pytest.raises(InputError, match="kind has no class for row 1, got None"):
        HuggingFace(str(tmp_path / "gap"), label="kind")
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
