"""Train, sample and evaluate through the command line, from one small run of each kind of data."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import flowgen
from flowgen.cli import main
from two_processes import free_port

SHORT = ["trainer.max_steps=4", "data.batch_size=32"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A conditional run on digits and an unconditional one on moons."""
    folder = tmp_path_factory.mktemp("runs")
    small = ["model.width=16", "model.depth=1"]
    digits = ["experiment=digits", "model.heads=2", *small, *SHORT]
    moons = ["experiment=moons", "data.num_train=300", "data.num_test=60", *small, *SHORT]
    for name, words in (("digits", digits), ("moons", moons)):
        more = ["sampler.num_steps=3", f"run_dir={folder / name}"]
        assert main(["train", *words, *more, "callbacks.sample_grid.num_samples=4"]) == 0
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(name):
    return torch.load(name, weights_only=True)


def test_run_folder_holds_what_the_readme_says(runs):
    for name in ("digits", "moons"):
        files = {str(path.relative_to(runs / name)) for path in (runs / name).rglob("*.*")}
        expected = {"config.yaml", "run.json", "metrics.csv", "report.html"}
        expected |= {f"checkpoints/{n}.ckpt" for n in ("last", "step_0000000", "step_0000004")}
        assert files == expected | {"samples/step_0000004.png"}


def test_same_seed_same_samples_whatever_the_chunk_size(runs, place):
    base = ["sample", f"checkpoint={runs / 'digits'}", "num_samples=9"]
    for out, more in (("a", []), ("b", ["chunk=2"]), ("c", ["seed=1"])):
        assert main([*base, f"out={out}.pt", *more]) == 0
    a, b, c = (read(f"{name}.pt")["samples"].int() for name in "abc")
    # A rounded pixel may move by one grey level where sums are taken in another order.
    assert (a - b).abs().max() <= 1
    assert (a - c).abs().max() > 10


def test_every_kind_of_output_holds_the_same_samples(runs, place):
    base = ["sample", f"checkpoint={runs / 'digits'}", "num_samples=5", "label=[3,7]"]
    for out in ("a.pt", "a.npz", "folder", "a.png"):
        assert main([*base, f"out={out}"]) == 0
    samples = read("a.pt")["samples"]
    assert read("a.pt")["labels"].tolist() == [3, 7, 3, 7, 3]
    with np.load("a.npz") as arrays:
        assert np.array_equal(arrays["samples"], samples.numpy())
    names = sorted(path.name for path in Path("folder").iterdir())
    assert names[1] == "00001_label7.png"
    with Image.open(Path("folder") / names[1]) as image:
        assert np.array_equal(np.asarray(image), samples[1, 0].numpy())
    with Image.open("a.png") as grid:
        assert np.asarray(grid)[2 + 4 * 2, 2 + 4 * 3] == samples[0, 0, 2, 3]


def test_default_output_is_in_the_run_folder(runs, place):
    run = shutil.copytree(runs / "digits", place / "copy")
    assert main(["sample", "checkpoint=copy/checkpoints/last.ckpt", "num_samples=2"]) == 0
    assert (run / "samples.png").is_file()


def test_sampling_follows_its_settings(runs, place):
    pipeline = flowgen.load(runs / "digits", device="cpu")
    settings = ["sampler=heun", "sampler.num_steps=2", "guidance.scale=3", "label=4", "seed=5"]
    words = [f"checkpoint={runs / 'digits'}", "num_samples=3", "out=a.pt", "device=cpu"]
    assert main(["sample", *words, *settings]) == 0
    expected = pipeline.with_sampler(pipeline.sampler.with_num_steps(2)).guided(3.0)
    assert torch.equal(read("a.pt")["samples"], expected.sample(3, label=4, seed=5))
    assert main(["sample", *words, "weights=raw"]) == 0
    raw = flowgen.load(runs / "digits", weights="raw", device="cpu")
    assert torch.equal(read("a.pt")["samples"], raw.sample(3))


def test_another_path_at_sampling_time_leads_to_the_same_points(runs, place):
    """A change of schedule changes the way, not the end, of exact trajectories."""
    words = [f"checkpoint={runs / 'moons'}", "num_samples=6", "sampler=rk4", "device=cpu"]
    for out, more in (("a", []), ("b", ["path=trig"])):
        assert main(["sample", *words, "sampler.num_steps=400", f"out={out}.pt", *more]) == 0
    assert torch.allclose(read("a.pt")["samples"], read("b.pt")["samples"], atol=2e-2)


def test_dry_run_prints_the_grid_and_writes_nothing(runs, place, capsys):
    words = [f"checkpoint={runs / 'moons'}", "sampler=midpoint", "sampler.num_steps=4"]
    assert main(["sample", *words, "dry_run=true", "out=a.pt"]) == 0
    out = capsys.readouterr().out
    assert "time grid: 0, 0.25, 0.5, 0.75, 1" in out
    assert "evaluations of the field for each sample: 8" in out
    assert list(place.iterdir()) == []


def test_evaluation_of_images_writes_figures_with_their_protocol(runs, place, capsys):
    words = ["num_samples=40", "extractor=pixels", "path_steps=4", "path_samples=5", "seed=3"]
    assert main(["evaluate", f"checkpoint={runs / 'digits'}", "out=e.json", *words]) == 0
    result = json.loads(Path("e.json").read_text())
    figures, protocol = result["figures"], result["protocol"]
    images = figures["distance to held-out images"]
    # Four steps of training: far above the floor of real images.
    assert images["fd_pixels"] > 2 * images["fd_pixels_floor"]
    assert images["samples"] == 40
    assert figures["labels"]["accuracy_on_held_out_images"] > 0.95
    assert figures["labels"]["accuracy"] < 0.5
    assert figures["paths"]["path_energy"] >= figures["paths"]["transport_cost"]
    assert protocol["evaluations_per_sample"] == 6
    assert protocol["sampler"] == "heun"
    assert protocol["step"] == 4
    assert "1 is off" in protocol["guidance"]
    assert "fd_pixels" in capsys.readouterr().out


def test_evaluation_of_points_stands_beside_its_floor(runs, place):
    words = ["num_samples=60", "path_steps=4", "path_samples=60"]
    assert main(["evaluate", f"checkpoint={runs / 'moons'}", "out=e.json", *words]) == 0
    figures = json.loads(Path("e.json").read_text())["figures"]
    points = figures["distance to held-out points"]
    assert points["points"] == 60
    assert points["w2"] > points["w2_floor"] > 0
    assert points["w2_squared"] == pytest.approx(points["w2"] ** 2)
    assert figures["paths"]["npe"] >= 0


def test_evaluation_takes_other_data_and_refuses_another_shape(runs, place, capsys):
    words = ["num_samples=20", "path_steps=2", "path_samples=4", "out=e.json"]
    checkpoint = f"checkpoint={runs / 'moons'}"
    assert main(["evaluate", checkpoint, "data=swiss_roll", *words]) == 0
    assert json.loads(Path("e.json").read_text())["protocol"]["data"] == "swiss_roll"
    assert main(["evaluate", checkpoint, "data=digits", *words]) == 2
    assert "the data has shape (1, 8, 8), the model (2,)" in capsys.readouterr().err


def test_a_sweep_writes_one_run_for_each_job(place):
    words = ["experiment=moons", "data.num_train=300", "data.num_test=50", *SHORT]
    assert main(["train", *words, "callbacks=quiet", "--multirun", "path=linear,trig"]) == 0
    folders = sorted(Path("runs/moons").iterdir())
    assert len(folders) == 2
    configs = [(folder / "config.yaml").read_text() for folder in folders]
    assert len({text.count("flowgen.paths.Trig") for text in configs}) == 2


def test_two_processes_train_into_one_run_folder(place):
    words = ["experiment=moons", "data.num_train=300", "data.num_test=50", *SHORT]
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "run_dir=run"]
    command = [sys.executable, "-m", "flowgen", "train", *words, *ddp]
    env = os.environ | {"MASTER_PORT": str(free_port())}
    subprocess.run(command, check=True, capture_output=True, timeout=200, env=env)
    assert [path.name for path in place.iterdir()] == ["run"]
    assert len((place / "run" / "metrics.csv").read_text().splitlines()) == 2
    assert flowgen.load("run", device="cpu").about["step"] == 4


def test_the_demo_ends_with_a_grid_and_the_next_command(place, capsys):
    script = Path(__file__).resolve().parents[2] / "scripts" / "demo.py"
    demo = runpy.run_path(str(script))["demo"]
    assert demo(*SHORT, "model.width=16", "model.depth=1", "model.heads=2") == 0
    out = capsys.readouterr().out
    grid = next(line.split()[-1] for line in out.splitlines() if line.strip().endswith("grid.png"))
    with Image.open(grid) as picture:
        assert picture.size == (10 * 34 + 2, 10 * 34 + 2)
    command = next(line.split() for line in out.splitlines() if "out=sevens.png" in line)
    assert main([*command[1:], "sampler.num_steps=2"]) == 0
    assert Path("sevens.png").is_file()
