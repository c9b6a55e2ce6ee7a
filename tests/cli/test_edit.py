"""``flowgen edit``: held-out and own images, conditions, masks, and slips."""

import numpy as np
import pytest
import torch
from PIL import Image

import flowgen
from flowgen.cli import config_dir, main
from flowgen.data import Digits
from flowgen.metrics.lpips import CHANNELS, _alexnet
from flowgen.pipeline.editing import Interpolation, Noising, edited
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


def test_a_row_leads_from_one_image_to_the_next(run, capsys):
    words = ["edit=interpolation", "edit.steps=4", "num_images=6"]
    found = edit(run, *words)
    assert "12 images between 6, whose own come back at PSNR" in capsys.readouterr().out
    own = flowgen.load(run, device="cpu")
    batch = Digits().test.__getitems__(list(range(6)))
    was = own.conditioner.take(batch)
    assert torch.equal(found, edited(own, batch["x_1"], Interpolation(4), was=was))
    assert (Interpolation(4).ends(found).int() - batch["x_1"].int()).abs().max() <= 8
    assert main(["edit", f"checkpoint={run}", *words, "out=a.png"]) == 0
    # Three rows of six, enlarged to 32 pixels, with gaps of 2.
    assert Image.open("a.png").size == (6 * 34 + 2, 3 * 34 + 2)


def test_images_go_to_their_noise_in_a_file_and_come_back_from_it(run, capsys):
    many = "sampler.num_steps=20"
    words = ["sampler=midpoint", "num_images=7", "out=noise.npz", many]
    assert main(["invert", f"checkpoint={run}", *words]) == 0
    told = capsys.readouterr().out
    assert "noise of 7 images" in told
    assert "no SSIM (below 11 pixels)" in told
    base = ["sample", f"checkpoint={run}", "noise=noise.npz", "sampler=midpoint", many]
    assert main([*base, "out=same.npz"]) == 0
    batch = Digits().test.__getitems__(list(range(7)))
    with np.load("same.npz") as same:
        assert same["labels"].tolist() == batch["label"].tolist()
        assert np.abs(same["samples"].astype(int) - batch["x_1"].numpy()).max() <= 1
        back = same["samples"]
    assert main([*base, "label=[3,4]", "out=asked.npz"]) == 0
    with np.load("asked.npz") as asked:
        assert asked["labels"].tolist() == [3, 4, 3, 4, 3, 4, 3]
        assert np.abs(asked["samples"].astype(int) - back).mean() > 0.5
    capsys.readouterr()
    assert main([*base, "dry_run=true"]) == 0
    assert "time grid" in capsys.readouterr().out


def test_noise_files_that_do_not_fit_take_one_line(run, tmp_path, capsys):
    noise, label = np.zeros((3, 1, 8, 8), np.float32), np.zeros(3, np.int64)
    files = {
        "shape": {"noise": noise[:, :, 1:]},
        "name": {"x": noise},
        "kind": {"noise": noise.astype(np.int64)},
        "infinite": {"noise": noise + np.inf},
        "few": {"noise": noise, "cond.label": label[:2]},
        "other": {"noise": noise, "cond.text": label},
        "range": {"noise": noise, "cond.label": label + 99},
    }
    for name, arrays in files.items():
        np.savez(f"{name}.npz", **arrays)
    np.savez("objects.npz", noise=np.array([{}], dtype=object))
    (tmp_path / "broken.npz").write_bytes(b"PK none")
    (tmp_path / "text.npz").write_text("none")
    np.savez("plain.npz", noise=noise)
    for name, part in (
        ("shape", "the model starts from (n, 1, 8, 8)"),
        ("name", "no array of numbers named noise"),
        ("kind", "no array of numbers named noise"),
        ("infinite", "not finite"),
        ("few", "are not those of this model"),
        ("other", "are not those of this model"),
        ("range", "some of its labels are none of this model"),
        ("objects", "no file of flowgen invert"),
        ("broken", "no file of flowgen invert"),
        ("text", "no file of flowgen invert"),
        ("nowhere", "no such file"),
    ):
        words = ["sample", f"checkpoint={run}", f"noise={name}.npz", "out=b.pt"]
        assert main(words) == 2, name
        err = capsys.readouterr().err.splitlines()
        assert part in err[-1], (name, err)
    assert not (tmp_path / "b.pt").exists()
    assert main(["sample", f"checkpoint={run}", "noise=plain.npz", "out=b.pt"]) == 0
    assert main(["invert", f"checkpoint={run}", "out=noise.png"]) == 2
    assert "to a file .npz" in capsys.readouterr().err


def test_ssim_and_lpips_are_told_of_images_that_are_large_enough(tmp_path, capsys):
    make_pictures(tmp_path)
    small = ["data=image_folder", "data.root=pictures", "data.size=32", "sampler.num_steps=2"]
    assert main(["train", *small, *MODEL, *SHORT, "data.batch_size=8", "run_dir=large"]) == 0
    line = ["edit", "checkpoint=large", "edit=noising", "num_images=2", "out=a.pt"]
    capsys.readouterr()
    assert main([*line, "edit.strength=0"]) == 0
    assert "SSIM 1.000, no LPIPS (give lpips_weights)" in capsys.readouterr().out
    trunk = {f"features.{name}": value for name, value in _alexnet().state_dict().items()}
    heads = {f"lin{i}.model.1.weight": torch.ones(1, c, 1, 1) for i, c in enumerate(CHANNELS)}
    torch.save(trunk, "trunk.pth")
    torch.save(heads, "heads.pth")
    weights = "lpips_weights=[trunk.pth,heads.pth]"
    assert main([*line, "edit.strength=0", weights]) == 0
    assert "LPIPS 0.0000" in capsys.readouterr().out
    assert main([*line, "edit.strength=0.9", weights]) == 0
    assert float(capsys.readouterr().out.split("LPIPS ")[1].split()[0]) > 0
    assert main([*line, "lpips_weights=[trunk.pth]"]) == 2
    assert "two files" in capsys.readouterr().err


def test_every_edit_of_the_tree_is_walked_here():
    names = {file.stem for file in (config_dir() / "edit").glob("*.yaml")}
    assert names == {
        *("noising", "inversion", "controlled_inversion", "transport_inversion"),
        *("inpainting", "colours", "interpolation"),
    }


def test_slips_take_one_line(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"none")
    for words, part in (
        (["edit=inpainting"], "needs a mask"),
        (["edit=inpainting", "mask=up"], "give an image, or one of left"),
        (["edit=inpainting", "mask=bad.png"], "bad.png"),
        (["edit=colours"], "several channels"),
        (["edit=interpolation", "num_images=3"], "takes samples by 2, and there are 3"),
        (["edit=interpolation", "edit.steps=1"], "edit.steps must be >= 2"),
        (["lpips_weights=[a,b]"], "no file a"),
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
