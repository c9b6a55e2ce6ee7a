import logging

import pytest
import torch
from PIL import Image

from flowgen.core import InputError
from flowgen.data import DataSet, ImageFolder

COLOURS = {"ant": (250, 0, 0), "bee": (0, 250, 0), "cat": (0, 0, 250)}


@pytest.fixture
def nested(tmp_path):
    root = tmp_path / "animals"
    for number, (name, pixel) in enumerate(COLOURS.items()):
        for i in range(10):
            path = root / name / ("deep" if i % 2 else ".") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (5 + i, 9 + number), pixel).save(path)
    return root


@pytest.fixture
def flat(tmp_path):
    root = tmp_path / "flat"
    root.mkdir()
    for i in range(12):
        Image.new("L", (8, 8), 20 * i).save(root / f"{i:02}.png")
    return root


def everything(split):
    return split.__getitems__(range(len(split)))


def test_folders_are_labels(nested):
    data = ImageFolder(nested, size=6, holdout=0.2)
    assert isinstance(data, DataSet)
    assert (data.name, data.shape, data.num_classes) == ("animals", (3, 6, 6), 3)
    assert data.label_names == ("ant", "bee", "cat")
    for split, count in ((data.train, 8), (data.test, 2)):
        batch = everything(split)
        assert torch.bincount(batch["label"]).tolist() == [count] * 3
        wanted = torch.tensor(list(COLOURS.values()))[batch["label"]]
        assert torch.equal(batch["x_1"][:, :, 2, 3].long(), wanted)


def test_a_flat_folder_is_unlabelled(flat):
    data = ImageFolder(str(flat), size=[4, 6], channels=1, holdout=0.25)
    assert data.shape == (1, 4, 6)
    assert data.num_classes is None
    assert data.label_names is None
    greys = [set(everything(s)["x_1"].flatten().tolist()) for s in (data.train, data.test)]
    assert [len(grey) for grey in greys] == [9, 3]
    assert greys[0] | greys[1] == set(range(0, 240, 20))


def test_the_split_repeats_itself_and_follows_the_seed(flat):
    first, again, other = (
        everything(ImageFolder(flat, 2, 1, holdout=0.5, seed=s).test)["x_1"] for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_flip_reaches_the_training_images_only(tmp_path):
    for i in range(40):
        image = Image.new("L", (4, 4), 0)
        image.putpixel((0, 0), 255)
        image.save(tmp_path / f"{i}.png")
    data = ImageFolder(tmp_path, 4, 1, holdout=0.5, flip=True)
    corners = [everything(s)["x_1"][:, 0, 0, 0].unique().tolist() for s in (data.train, data.test)]
    assert corners == [[0, 255], [255]]


def test_unreadable_files_are_all_counted_and_ten_are_named(nested):
    for i in range(12):
        (nested / "bee" / f"bad{i:02}.png").write_bytes(b"not an image")
    with pytest.raises(InputError) as error:
        ImageFolder(nested)
    message = str(error.value)
    assert "12 of 42 image files cannot be read" in message
    assert all(f"bad{i:02}.png" in message for i in range(10))
    assert "bad10" not in message
    assert "and 2 more" in message
    assert "skip_unreadable=true" in message
    assert "\n" not in message


def test_a_truncated_image_is_unreadable(flat):
    path = flat / "03.png"
    path.write_bytes(path.read_bytes()[:50])  # the header is whole, the pixels are not
    with pytest.raises(InputError, match=r"1 of 12 .*03\.png"):
        ImageFolder(flat)


def test_unreadable_files_can_be_left_out_and_are_told(nested, caplog):
    for path in (nested / "bee").rglob("*.png"):
        path.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        data = ImageFolder(nested, skip_unreadable=True)
    assert "10 of 30 image files" in caplog.text
    assert data.label_names == ("ant", "cat")
    batch = everything(data.train)
    assert len(batch["label"]) == 18
    blue = batch["x_1"][:, 2, 0, 0] == 250
    assert torch.equal(blue.long(), batch["label"])


def test_nothing_readable_is_refused_even_when_skipping(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="0 readable"):
        ImageFolder(tmp_path, skip_unreadable=True)


def test_a_single_image_cannot_be_split(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="at least 2"):
        ImageFolder(tmp_path)


def test_mixed_layouts_are_refused_by_name(nested):
    Image.new("L", (4, 4)).save(nested / "stray.png")
    with pytest.raises(InputError, match=r"mixes 1 images .*stray\.png.*ant"):
        ImageFolder(nested)


@pytest.mark.parametrize("name", ["typo", "file.txt", "empty"])
def test_a_root_without_images_is_refused(tmp_path, name):
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("text")
    with pytest.raises(InputError, match=name) as error:
        ImageFolder(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"size": 0}, "size"),
        ({"size": [8, 8, 3]}, "size"),
        ({"size": [8, -1]}, "size"),
        ({"channels": 4}, "channels"),
        ({"holdout": 1.5}, "holdout"),
        ({"seed": -2}, "seed"),
    ],
)
def test_bad_arguments_are_named(flat, bad, name):
    with pytest.raises(InputError, match=name):
        ImageFolder(flat, **bad)


def test_a_progress_bar_appears_for_big_folders_only(flat, monkeypatch, capsys):
    from importlib import import_module

    ImageFolder(flat)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(import_module("flowgen.data.image_folder"), "_SHOW_PROGRESS", 10)
    ImageFolder(flat)
    captured = capsys.readouterr()
    assert "12/12" in captured.err
    assert captured.out == ""
