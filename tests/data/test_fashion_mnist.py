import gzip
import hashlib
import importlib
import struct

import pytest
import torch

from flowgen.core import InputError
from flowgen.data import DataSet, FashionMNIST
from flowgen.data.idx import read_idx

# The package re-exports the class; the module of the same area is patched below.
fashion = importlib.import_module("flowgen.data.fashion_mnist")
SIZES = {"train": 20, "t10k": 10}


def idx_bytes(shape, values):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(values)


def files(part, count):
    images = idx_bytes((count, 28, 28), (i % 251 for i in range(count * 784)))
    labels = idx_bytes((count,), (i % 10 for i in range(count)))
    return {
        f"{part}-images-idx3-ubyte.gz": gzip.compress(images),
        f"{part}-labels-idx1-ubyte.gz": gzip.compress(labels),
    }


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "fashion"
    path.mkdir()
    for part, count in SIZES.items():
        for name, content in files(part, count).items():
            (path / name).write_bytes(content)
    return path


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """Neither the Debian package nor a cache exists; returns the cache folder."""
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "no-debian")
    monkeypatch.setenv("FLOWGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fashion-mnist"


def check(data):
    assert isinstance(data, DataSet)
    assert (data.name, data.shape, data.num_classes) == ("fashion_mnist", (1, 28, 28), 10)
    assert (len(data.train), len(data.test)) == (20, 10)
    assert data.label_names is not None
    assert data.label_names[9] == "ankle boot"
    batch = data.train.__getitems__([3])
    assert batch["label"].tolist() == [3]
    wanted = (torch.arange(784) + 3 * 784) % 251
    assert batch["x_1"].flatten().tolist() == wanted.tolist()


def test_a_folder_of_the_user(folder):
    check(FashionMNIST(root=folder))
    check(FashionMNIST(root=str(folder)))


def test_unpacked_files_are_read_too(folder):
    for path in folder.iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    check(FashionMNIST(root=folder))


def test_the_debian_folder_then_the_cache(monkeypatch, nowhere, folder):
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", folder)
    check(FashionMNIST())
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", folder / "not-installed")
    nowhere.parent.mkdir()
    folder.rename(nowhere)
    check(FashionMNIST())


def test_missing_data_tell_the_three_ways(nowhere, tmp_path):
    with pytest.raises(InputError) as error:
        FashionMNIST()
    for way in ("dataset-fashion-mnist", "root=", "download=true", str(nowhere), "no-debian"):
        assert way in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=str(tmp_path / "typo")):
        FashionMNIST(root=tmp_path / "typo")


def test_a_given_root_is_not_replaced_by_another_place(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", folder)
    with pytest.raises(InputError, match="typo"):
        FashionMNIST(root=tmp_path / "typo")


def test_one_missing_file_is_named(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match=r"missing there: t10k-labels-idx1-ubyte.gz\)"):
        FashionMNIST(root=folder)


def test_download_fetches_what_is_missing_and_keeps_it(monkeypatch, nowhere, folder):
    monkeypatch.setattr(fashion, "URL", folder.as_uri() + "/")
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    monkeypatch.setattr(fashion, "SHA256", {name: digests[name] for name in fashion.SHA256})
    nowhere.mkdir(parents=True)
    (folder / "t10k-labels-idx1-ubyte.gz").rename(nowhere / "t10k-labels-idx1-ubyte.gz")
    check(FashionMNIST(download=True))
    check(FashionMNIST())
    assert sorted(path.name for path in nowhere.iterdir()) == sorted(digests)


def test_a_download_of_other_files_leaves_nothing(monkeypatch, nowhere, folder):
    monkeypatch.setattr(fashion, "URL", folder.as_uri() + "/")
    with pytest.raises(InputError, match="SHA-256"):
        FashionMNIST(download=True)
    assert list(nowhere.iterdir()) == []


def test_flip_concerns_training_images_only(folder):
    data = FashionMNIST(root=folder, flip=True)
    plain = FashionMNIST(root=folder)
    rows = list(range(10))
    assert torch.equal(data.test.__getitems__(rows)["x_1"], plain.test.__getitems__(rows)["x_1"])
    assert not torch.equal(
        data.train.__getitems__(rows)["x_1"], plain.train.__getitems__(rows)["x_1"]
    )


NAME = "train-images-idx3-ubyte.gz"
GOOD = files("train", 20)[NAME]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD[:-40], "damaged"),
        (GOOD[:200] + b"\0\0\0\0" + GOOD[204:], "damaged"),
        (b"<html>not found</html>", "damaged"),
        (b"", "IDX|damaged"),
        (gzip.compress(b""), "first bytes are missing"),
        (gzip.compress(b"\0\0\x08\x01" + bytes(40)), "not an IDX file of bytes with 3 axes"),
        (gzip.compress(idx_bytes((20, 28, 28), bytes(20 * 784 - 1))), "15679 bytes of values"),
        (gzip.compress(idx_bytes((20, 28, 28), bytes(20 * 784 + 1))), "15681 bytes of values"),
        (gzip.compress(idx_bytes((0, 28, 28), b"")), "labels"),
        (gzip.compress(idx_bytes((19, 28, 28), bytes(19 * 784))), "19 images but"),
    ],
    # Compressed bytes hold the time and would make the names differ between processes.
    ids=[
        *("truncated", "flipped", "html", "empty", "nothing", "one-axis"),
        *("too-short", "too-long", "no-images", "fewer-images"),
    ],
)
def test_a_damaged_file_is_named(folder, content, message):
    (folder / NAME).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        FashionMNIST(root=folder)
    assert NAME in str(error.value)


def test_labels_of_another_data_set_are_refused(folder):
    labels = idx_bytes((10,), range(40, 50))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    with pytest.raises(InputError, match=r"0\.\.9, got 40\.\.49"):
        FashionMNIST(root=folder)


def test_idx_axes_come_in_file_order(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(idx_bytes((2, 3, 1), range(6)))
    assert read_idx(path, num_axes=3).tolist() == [[[0], [1], [2]], [[3], [4], [5]]]


@pytest.mark.skipif(
    not fashion.DEBIAN_FOLDER.is_dir(), reason="the Debian package is not installed"
)
def test_the_real_files_are_balanced():
    data = FashionMNIST()
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    train = data.train.__getitems__(range(60_000))
    assert torch.bincount(train["label"]).tolist() == [6000] * 10
    # The mean grey of the published training set is 0.2860.
    assert abs(float(train["x_1"].float().mean()) / 255 - 0.2860) < 5e-4
