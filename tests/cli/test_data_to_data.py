"""From data to data by the program: train, resume, sample beside the source, reflow, bad input."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import flowgen
from flowgen.cli import main
from flowgen.core import InputError
from flowgen.data import DataSource

SMALL = ["model=mlp_image", "model.width=16", "model.depth=1", "data.size=8", "data.batch_size=8"]
TRAIN = [*SMALL, "experiment=folder_to_folder", "trainer=cpu", "threads=1"]
TRAIN += ["data.root=target", "source.data.root=origin", "source.data.flip=true", "sampler=euler"]
TRAIN += ["callbacks.sample_grid.num_samples=4", "callbacks.checkpoints.every_n_steps=2"]


def fill(folder, colour, n=20):
    rng = np.random.default_rng(colour[0])
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = np.clip(rng.normal(colour, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two folders of images and a run from one to the other."""
    root = tmp_path_factory.mktemp("transfer")
    fill(root / "origin", (200, 40, 40))
    fill(root / "target", (40, 40, 200))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["train", *TRAIN, "run_dir=run", "trainer.max_steps=4"]) == 0
    return root


@pytest.fixture(autouse=True)
def _inside(place, monkeypatch):
    monkeypatch.chdir(place)


def test_the_checkpoint_describes_the_source_and_holds_no_image():
    pipeline = flowgen.load("run", device="cpu")
    assert set(pipeline.config["source"]) == {"_target_", "shape", "digest"}
    assert pipeline.about["source_data"]["root"] == "origin"
    assert isinstance(pipeline.source, DataSource)
    assert not pipeline.source.ready  # nothing is read before it is needed
    start = pipeline.noise(0, range(2))
    assert pipeline.source.count == 2
    assert float(start[:, 0].mean()) > 0.3 > -0.3 > float(start[:, 2].mean())  # red, held out
    assert torch.equal(start, pipeline.noise(7, range(2)))


def test_resumed_is_the_same_run(place):
    assert main(["train", *TRAIN, "run_dir=whole", "trainer.max_steps=4"]) == 0
    folder = place / "whole" / "checkpoints"
    (folder / "last.ckpt").unlink()
    (folder / "step_0000004.ckpt").unlink(missing_ok=True)
    (folder / "step_0000002.ckpt").rename(folder / "last.ckpt")
    assert main(["train", "resume=whole"]) == 0
    states = [flowgen.load(run, device="cpu").field.state_dict() for run in ("run", "whole")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_source_that_changed_cannot_be_gone_on_with(place, capsys):
    shutil.copytree(place / "run", place / "changed")
    added = place / "origin" / "new.png"
    Image.new("RGB", (8, 8), "white").save(added)
    try:
        assert main(["train", "resume=changed", "trainer.max_steps=6"]) == 2
        assert "source has other rows" in capsys.readouterr().err
    finally:
        added.unlink()


def test_samples_stand_beside_their_sources(place, capsys):
    assert main(["sample", "checkpoint=run", "out=held_out.png", "device=cpu"]) == 0
    assert "so many are drawn" in capsys.readouterr().out
    words = ["sample", "checkpoint=run", "images=target", "num_samples=3", "columns=2"]
    assert main([*words, "out=given.png", "device=cpu"]) == 0
    assert main([*words, "out=given.pt", "device=cpu"]) == 0
    picture = np.asarray(Image.open("given.png"))
    assert picture.shape[0] == 3 * 34 + 2  # a pair in each row, each pixel four times as large
    first = np.asarray(Image.open(place / "target" / "00.png"))
    assert np.array_equal(picture[2:34:4, 2:34:4], first)
    ends = torch.load("given.pt", weights_only=True)["samples"]
    assert np.array_equal(picture[2:34:4, 36:68:4], ends[0].permute(1, 2, 0).numpy())


def test_python_starts_from_given_images():
    pipeline = flowgen.load("run", device="cpu")
    x = torch.full((2, 3, 8, 8), 90, dtype=torch.uint8)
    assert torch.equal(*pipeline.starting_from(x).sample(2))  # the same start, the same end
    with pytest.raises(InputError, match="must be seen as"):
        pipeline.starting_from(x[:, :1])


def test_reflow_on_made_pairs_starts_from_training_images(place):
    pairs = ["num_pairs=24", "shard_size=16", "sampler.num_steps=2", "device=cpu", "out=pairs"]
    assert main(["make-pairs", "teacher=run", *pairs]) == 0
    small = ["data.batch_size=8", "trainer.max_steps=2", "callbacks=quiet", "trainer=cpu"]
    words = ["teacher=run", "distill=reflow", *small, "table.num_samples=0", "threads=1"]
    made = ["coupling=made_pairs", "coupling.folder=pairs", "run_dir=reflown"]
    assert main(["distill", *words, *made]) == 0
    assert main(["distill", *words, "run_dir=on_the_way"]) == 0
    for run in ("reflown", "on_the_way"):
        student = flowgen.load(run, device="cpu")
        assert student.about["source_data"]["root"] == "origin"
        assert bool(student.sample(2).double().isfinite().all())


def test_a_student_that_would_be_noised_again_is_told_how_to_jump(place, capsys):
    small = ["data.batch_size=8", "trainer.max_steps=1", "callbacks=quiet", "trainer=cpu"]
    words = ["teacher=run", "distill=velocity_matching", *small, "table.num_samples=0"]
    assert main(["distill", *words, "run_dir=no"]) == 2
    error = capsys.readouterr().err
    jump = ["sampler=segment", "sampler.grid.nodes=[0,1]", "sampler.num_steps=1"]
    assert "needs a standard Gaussian source" in error
    assert f"use {' '.join(jump)}" in error
    assert main(["distill", *words, *jump, "run_dir=jumps"]) == 0
    assert flowgen.load("jumps", device="cpu").sample(2).shape[0] == 2


def test_a_source_that_is_gone_is_told_and_another_works(place, capsys):
    (place / "origin").rename(place / "away")
    try:
        assert main(["sample", "checkpoint=run", "out=gone.png", "device=cpu"]) == 2
        error = capsys.readouterr().err.strip()
        assert "origin does not exist" in error
        assert "images=<folder>" in error
        assert len(error.splitlines()) == 1
        words = ["sample", "checkpoint=run", "images=away", "out=there.png", "device=cpu"]
        assert main(words) == 0
    finally:
        (place / "away").rename(place / "origin")


REFUSED = {
    ("images=nowhere",): "no such file or folder",
    ("images=target", "sampler=ddim_stochastic"): "needs a standard Gaussian source",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_input(words, place, capsys):
    assert main(["sample", "checkpoint=run", "out=bad.png", "device=cpu", *words]) == 2
    assert REFUSED[words] in capsys.readouterr().err
    assert not (place / "bad.png").exists()


def test_a_source_of_another_shape_is_refused(place, capsys):
    assert main(["train", *TRAIN, "run_dir=bad", "source.data.size=6"]) == 2
    assert "source and data must have one shape" in capsys.readouterr().err
    assert not (place / "bad").exists()
