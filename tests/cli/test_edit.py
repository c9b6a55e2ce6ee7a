"""``flowgen edit``: held-out and own images, conditions, masks, and slips."""

import numpy as np
import pytest
import torch
from PIL import Image

import flowgen
from flowgen.cli import config_dir, main
from flowgen.data import Digits
from flowgen.pipeline.editing import Noising, edited
from image_places import make_pictures

SHORT = ["data.batch_size=16", "trainer.max_steps=12", "callbacks=quiet", "trainer=cpu"]
MODEL = ["model=mlp_image", "model.width=32", "model.depth=1", "optimizer.lr=0.02"]


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory):
    run = tmp_path_factory.mktemp("edit") / "run"
    steps = ["sampler.num_steps=8", "ema_decay=0.5", f"run_dir={run}"]
    assert main(["train", "data=digits", *MODEL, *SHORT, *steps]) == 0
    return run


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def edit(run, *words):
    assert main(["edit", f"checkpoint={run}", *words, "out=a.pt"]) == 0
    return torch.load("a.pt")["samples"]


def test_held_out_images_are_known_and_asked_for_labels_replace_theirs(run):
    own = flowgen.load(run, device="cpu")
    batch = Digits().test.__getitems__(list(range(5)))
    same = edit(run, "edit=noising", "num_images=5", "seed=3")
    was = own.conditioner.take(batch)
    assert torch.equal(same, edited(own, batch["x_1"], Noising(), was=was, seed=3))
    other = edit(run, "edit=noising", "num_images=5", "seed=3", "label=[3,4]")
    want = edited(
        own, batch["x_1"], Noising(), was={"label": torch.tensor([3, 4, 3, 4, 3])}, seed=3
    )
    assert torch.equal(other, want)
    assert not torch.equal(other, same)


def test_own_images_are_read_and_the_picture_shows_both(run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for i in range(3):
        pixels = np.full((16, 16), 80 * i, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / f"{i}.png")
    words = ["images=mine", "edit=inversion", "was.label=2"]
    found = edit(run, *words)
    assert found.shape == (3, 1, 8, 8)
    assert main(["edit", f"checkpoint={run}", *words, "out=a.png"]) == 0
    assert "3 images edited" in capsys.readouterr().out
    # Two rows of three, enlarged to 32 pixels, with gaps of 2.
    assert Image.open("a.png").size == (3 * 34 + 2, 2 * 34 + 2)
    single = edit(run, "images=mine/1.png", "edit=noising", "edit.strength=0")
    assert single.shape == (1, 1, 8, 8)
    assert (single == 80).all()


@pytest.mark.parametrize("mask", ["left", "right", "top", "bottom", "centre", "own.png"])
def test_what_a_mask_keeps_stays(run, mask):
    kept = np.full((8, 8), 255, dtype=np.uint8)
    kept[2:6, 2:6] = 0
    Image.fromarray(kept).save("own.png")
    found = edit(run, "edit=inpainting", f"mask={mask}", "num_images=2")
    want = Digits().test.__getitems__([0, 1])["x_1"]
    part = {
        "left": (..., slice(4, None)),
        "right": (..., slice(None, 4)),
        "top": (..., slice(4, None), slice(None)),
        "bottom": (..., slice(None, 4), slice(None)),
        "centre": (..., slice(None, 2)),
        "own.png": (..., slice(None, 2), slice(None)),
    }[mask]
    assert (found[part].int() - want[part].int()).abs().max() <= 1
    assert not torch.equal(found, want)


@pytest.mark.parametrize("name", ["controlled_inversion", "transport_inversion"])
def test_pulls_stay_nearer_than_none(run, name):
    want = Digits().test.__getitems__(list(range(4)))["x_1"].float()
    free, pulled = (
        edit(run, f"edit={name}", "label=3", "num_images=4", f"edit.eta={eta}", "edit.stop=1")
        for eta in (0, 0.9)
    )
    assert (pulled.float() - want).abs().mean() < 0.6 * (free.float() - want).abs().mean()


def test_colours_are_made_up_and_the_grey_image_stays(tmp_path):
    make_pictures(tmp_path)
    small = ["data=image_folder", "data.root=pictures", "data.size=8", "sampler.num_steps=8"]
    assert main(["train", *small, *MODEL, *SHORT, "data.batch_size=8", "run_dir=colour"]) == 0
    was = edit("colour", "edit=noising", "edit.strength=0", "num_images=2").float()
    found = edit("colour", "edit=colours", "num_images=2").float()
    # Colours that leave 0..255 are cut, so not every pixel can keep its grey.
    assert (found.mean(dim=1) - was.mean(dim=1)).abs().median() <= 1
    assert (found - was).abs().mean() > 5


def test_every_edit_of_the_tree_is_walked_here():
    names = {file.stem for file in (config_dir() / "edit").glob("*.yaml")}
    assert names == {
        *("noising", "inversion", "controlled_inversion", "transport_inversion"),
        *("inpainting", "colours"),
    }


def test_slips_take_one_line(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"none")
    for words, part in (
        (["edit=inpainting"], "needs a mask"),
        (["edit=inpainting", "mask=up"], "give an image, or one of left"),
        (["edit=inpainting", "mask=bad.png"], "bad.png"),
        (["edit=colours"], "several channels"),
        (["edit=noising", "edit.strength=2"], "edit.strength must be in [0, 1]"),
        (["images=nowhere"], "no such file or folder"),
        (["images=empty"], "there is no image in it"),
        (["images=bad.png"], "bad.png"),
        (["label=12"], "12"),
        (["was.label=12"], "12"),
        (["num_images=0"], "num_images must be >= 1"),
        (["sampler=euler_maruyama"], "an ODE sampler"),
        (["style=noto"], "style"),
    ):
        capsys.readouterr()
        assert main(["edit", f"checkpoint={run}", "out=b.png", *words]) == 2, words
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1, (words, err)
        assert part in err[0], (words, err)
    assert not (tmp_path / "b.png").exists()
