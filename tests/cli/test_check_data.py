"""What is said of a data set before it is trained on."""

import numpy as np
import pytest
from PIL import Image

from flowgen.cli import main


@pytest.fixture(name="pictures")
def _pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for label, count in (("cat", 30), ("dog", 6)):
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path


WORDS = ["check-data", "data=image_folder", "data.root=pictures", "data.size=8"]


def test_counts_classes_captions_and_doubles(pictures, capsys):
    for name in ("0.png", "1.png", "2.png"):
        (pictures / "pictures" / "cat" / name).write_bytes(
            (pictures / "pictures" / "cat" / "5.png").read_bytes()
        )
    (pictures / "pictures" / "cat" / "7.txt").write_text("a small cat")
    assert main([*WORDS, "data.holdout=0.1", "num_shown=5"]) == 0
    out = capsys.readouterr().out
    assert "pictures: 32 for training, 4 held out, shape (3, 8, 8)" in out
    assert "label: 2 (training+held out): cat 27+3, dog 5+1" in out
    assert "warning: labels with less than 10 training samples: dog" in out
    assert "captions: 2 different ones, 0 to 3 words" in out
    assert "warning: 35 samples have no caption" in out
    twice = next(line for line in out.splitlines() if "there twice" in line)
    assert int(twice.split(": ")[1].split()[0]) in (2, 3)
    with Image.open("data_pictures.png") as image:
        assert image.size[0] > image.size[1]


def test_broken_files_are_named_and_nothing_is_drawn(pictures, capsys):
    (pictures / "pictures" / "cat" / "3.png").write_bytes(b"no image")
    assert main(WORDS) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1
    assert "1 of 36 image files cannot be read" in err[0]
    assert "3.png" in err[0]
    assert not list(pictures.glob("*.png"))
    assert main([*WORDS, "data.skip_unreadable=true", "out=look.png"]) == 0
    assert (pictures / "look.png").is_file()


def test_points_are_drawn_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check-data", "data=moons", "data.num_train=50", "data.num_test=10"]) == 0
    assert "moons: 50 for training, 10 held out, shape (2,)" in capsys.readouterr().out
    assert (tmp_path / "data_moons.png").is_file()


@pytest.mark.parametrize(
    ("word", "reason"), [("num_shown=0", "num_shown must be >= 1"), ("out=x.txt", "as .png")]
)
def test_bad_settings(word, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check-data", word]) == 2
    assert reason in capsys.readouterr().err
