"""Every choice of every config group trains, saves, reloads without its config and samples again.

A new YAML is walked without being registered; what a choice needs beside itself is in ``NEEDS``.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import flowgen
from flowgen.cli import config_dir, main

SMALL_DIT = ["model=dit_tiny", "model.width=16", "model.depth=1", "model.heads=2"]
IMAGES = ["data=digits", *SMALL_DIT]
POINTS = ["data=moons", "data.num_train=300", "data.num_test=50", "model=mlp"]

GROUPS = {
    "path": IMAGES,
    "prediction": IMAGES,
    "prediction@loss_space": IMAGES,
    "coupling": IMAGES,
    "time_sampler": IMAGES,
    "weighting": IMAGES,
    "distance": IMAGES,
    "objective": IMAGES,
    "model": ["data=digits"],
    "sampler": POINTS,
    "optimizer": POINTS,
    "lr_schedule": POINTS,
    "source": POINTS,
    "data": ["model=mlp"],
    "trainer": POINTS,
    "logger": POINTS,
    "callbacks": POINTS,
}
"""Each group with the run in which its choices are walked."""

NEEDS = {
    "coupling=exact_assignment": ["conditional=false"],
    "data=fashion_mnist": ["data.root=fashion"],
    "data=image_folder": ["data.root=pictures", "data.size=8"],
    "trainer=gpu": ["trainer.accelerator=cpu", "trainer.precision=bf16-mixed"],
    "trainer=ddp": ["trainer.accelerator=cpu", "trainer.devices=1"],
    "model=dit_s": ["model.depth=1"],
}
"""Overrides without which a choice cannot be walked here; a GPU recipe runs on the CPU."""

NOT_WALKED = {"sampler=stored"}
"""``stored`` means the checkpoint's own sampler, so only sampling and evaluation offer it."""

CASES = [
    (f"{group}={file.stem}", base)
    for group, base in GROUPS.items()
    for file in sorted((config_dir() / group.split("@")[0]).glob("*.yaml"))
    if f"{group}={file.stem}" not in NOT_WALKED
]


def test_no_group_is_forgotten():
    groups = {folder.name for folder in config_dir().iterdir() if folder.is_dir()}
    assert groups - {"experiment", "grid", "guidance", "diffusion"} == {group.split("@")[0] for group in GROUPS}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a folder of pictures and small IDX files."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{i}.png")
    (tmp_path / "fashion").mkdir()
    for part, count in (("train", 40), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            name = tmp_path / "fashion" / f"{part}-{kind}-ubyte.gz"
            name.write_bytes(gzip.compress(head + array.tobytes()))
    return tmp_path


def train(*words):
    small = ["data.batch_size=16", "trainer.max_steps=3"]
    run = ["run_dir=run", "sampler.num_steps=2"]
    assert main(["train", *small, *run, *words]) == 0


@pytest.mark.parametrize(("choice", "base"), CASES, ids=[case[0] for case in CASES])
def test_choice_trains_saves_reloads_and_samples(choice, base, place):
    train(*base, choice, *NEEDS.get(choice, []))
    for name in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt"):
        assert (place / "run" / name).is_file()
    pipeline = flowgen.load("run", device="cpu")
    samples = pipeline.sample(3, seed=1)
    assert bool(torch.as_tensor(samples, dtype=torch.float64).isfinite().all())
    Path("run/config.yaml").unlink()
    assert torch.equal(flowgen.load("run", device="cpu").sample(3, seed=1), samples)


EXPERIMENTS = sorted(file.stem for file in (config_dir() / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_takes_three_steps(name, place):
    words = [f"experiment={name}", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    if "fashion" in name:
        words.append("data.root=fashion")
    small = ["data.batch_size=16", "trainer.max_steps=3"]
    more = [
        "run_dir=run",
        "callbacks.sample_grid.num_samples=4",
        "compile=false",
        "sampler.num_steps=1",
    ]
    assert main(["train", *words, *small, *more]) == 0
    assert (place / "run" / "samples" / "step_0000003.png").is_file()
    assert len(flowgen.load("run", device="cpu").sample(2)) == 2


GRIDS = sorted(file.stem for file in (config_dir() / "grid").glob("*.yaml"))


@pytest.mark.parametrize("name", GRIDS)
def test_grid_samples_a_checkpoint(name, place, capsys):
    train(*POINTS)
    words = ["sampler=euler", f"grid@sampler.grid={name}", "sampler.num_steps=4"]
    capsys.readouterr()
    assert main(["sample", "checkpoint=run", "dry_run=true", *words]) == 0
    nodes = capsys.readouterr().out.splitlines()[0].partition(": ")[2].split(", ")
    times = [float(node) for node in nodes]
    assert times == sorted(set(times))
    assert times[-1] == 1.0
    assert main(["sample", "checkpoint=run", "num_samples=3", "out=a.pt", *words]) == 0
    assert torch.load("a.pt", weights_only=True)["samples"].isfinite().all()


DIFFUSIONS = sorted(file.stem for file in (config_dir() / "diffusion").glob("*.yaml"))


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_diffusion_samples_a_checkpoint(name, place):
    train(*POINTS)
    words = ["sampler=euler_maruyama", f"diffusion@sampler.stepper.diffusion={name}"]
    words += ["sampler.num_steps=5", "num_samples=3"]
    assert main(["sample", "checkpoint=run", "out=a.pt", *words]) == 0
    assert torch.load("a.pt", weights_only=True)["samples"].isfinite().all()


GUIDANCES = {
    "cfg": ["guidance.scale=3", "guidance.interval=[0.2,0.8]", "guidance.rescale=0.5"],
    "cfg_w": ["guidance.w=2"],
    "cfg_zero": ["guidance.scale=3", "guidance.zero_until=0.3"],
    "auto": ["guidance.checkpoint=run", "guidance.weights=raw", "guidance.scale=3"],
}


def test_no_guidance_is_forgotten():
    assert {file.stem for file in (config_dir() / "guidance").glob("*.yaml")} == set(GUIDANCES)


@pytest.mark.parametrize("name", GUIDANCES)
def test_guidance_samples_a_checkpoint(name, place):
    train(*IMAGES, "optimizer.lr=0.05")  # three steps must be enough to tell labels apart
    sample = ["sample", "checkpoint=run", "num_samples=3", "label=1", "weights=raw"]
    sample += ["sampler=euler", "sampler.num_steps=4"]
    assert main([*sample, "out=plain.pt"]) == 0
    assert main([*sample, "out=guided.pt", f"guidance={name}", *GUIDANCES[name]]) == 0
    plain, guided = (
        torch.load(f"{out}.pt", weights_only=True)["samples"] for out in ("plain", "guided")
    )
    # A model guided away from itself is left where it is; the others move.
    assert torch.equal(plain, guided) == (name == "auto")
