"""Experiments, machines, grids and guidance: what ``test_covering.py`` does not combine."""

import pytest
import torch

import flowgen
from flowgen.cli import config_dir, main
from image_places import make_pictures

SMALL_DIT = ["model=dit_tiny", "model.width=16", "model.depth=1", "model.heads=2"]
IMAGES = ["data=digits", *SMALL_DIT]
POINTS = ["data=moons", "data.num_train=300", "data.num_test=50", "model=mlp"]

TRAINERS = {
    "auto": [],
    "cpu": [],
    "gpu": ["trainer.accelerator=cpu", "trainer.precision=bf16-mixed"],
    "ddp": ["trainer.accelerator=cpu", "trainer.devices=1"],
    "fsdp2": ["trainer.accelerator=cpu", "trainer.devices=1"],
}
"""Overrides without which a machine cannot be walked here; a GPU recipe runs on the CPU."""


def test_no_machine_is_forgotten():
    assert {file.stem for file in (config_dir() / "trainer").glob("*.yaml")} == set(TRAINERS)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a folder of pictures and small IDX files."""
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path)
    return tmp_path


def train(*words, run="run"):
    small = ["data.batch_size=16", "trainer.max_steps=3"]
    assert main(["train", *small, f"run_dir={run}", "sampler.num_steps=2", *words]) == 0
    return run


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """A run that is only sampled from."""
    return train(*POINTS, run=tmp_path_factory.mktemp("points") / "run")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A run on labelled images, with steps so large that three tell labels apart."""
    return train(*IMAGES, "optimizer.lr=0.05", run=tmp_path_factory.mktemp("images") / "run")


@pytest.mark.parametrize("name", TRAINERS)
def test_machine_trains_and_reloads(name, place):
    train(*POINTS, f"trainer={name}", *TRAINERS[name])
    for file in ("config.yaml", "metrics.csv", "run.json", "report.html", "checkpoints/last.ckpt"):
        assert (place / "run" / file).is_file()
    samples = flowgen.load("run", device="cpu").sample(3, seed=1)
    assert bool(samples.isfinite().all())


EXPERIMENTS = sorted(file.stem for file in (config_dir() / "experiment").glob("*.yaml"))
UNETS = {"emoji_styles", "folder_to_folder"}
"""Experiments whose network counts the blocks of a level, not its depth."""


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_takes_three_steps(name, place):
    words = [f"experiment={name}", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    if "fashion" in name:
        words.append("data.root=fashion")
    if name == "folder_to_folder":
        words += ["data.root=pictures", "source.data.root=pictures"]
    small = ["data.batch_size=16", "trainer.max_steps=3"]
    # Widths, heads and patches are the experiment's; one block of each network is enough.
    more = [
        "model.num_blocks=1" if name in UNETS else "model.depth=1",
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
def test_grid_samples_a_checkpoint(name, points, place, capsys):
    words = ["sampler=euler", f"grid@sampler.grid={name}", "sampler.num_steps=4"]
    capsys.readouterr()
    assert main(["sample", f"checkpoint={points}", "dry_run=true", *words]) == 0
    nodes = capsys.readouterr().out.splitlines()[0].partition(": ")[2].split(", ")
    times = [float(node) for node in nodes]
    assert times == sorted(set(times))
    assert times[-1] == 1.0
    assert main(["sample", f"checkpoint={points}", "num_samples=3", "out=a.pt", *words]) == 0
    assert torch.load("a.pt", weights_only=True)["samples"].isfinite().all()


DIFFUSIONS = sorted(file.stem for file in (config_dir() / "diffusion").glob("*.yaml"))


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_diffusion_samples_a_checkpoint(name, points, place):
    words = ["sampler=euler_maruyama", f"diffusion@sampler.stepper.diffusion={name}"]
    words += ["sampler.num_steps=5", "num_samples=3"]
    assert main(["sample", f"checkpoint={points}", "out=a.pt", *words]) == 0
    assert torch.load("a.pt", weights_only=True)["samples"].isfinite().all()


GUIDANCES = {
    "cfg": ["guidance.scale=3", "guidance.interval=[0.2,0.8]", "guidance.rescale=0.5"],
    "cfg_w": ["guidance.w=2"],
    "cfg_zero": ["guidance.scale=3", "guidance.zero_until=0.3"],
    "auto": ["guidance.checkpoint={run}", "guidance.weights=raw", "guidance.scale=3"],
}


def test_no_guidance_is_forgotten():
    assert {file.stem for file in (config_dir() / "guidance").glob("*.yaml")} == set(GUIDANCES)


@pytest.mark.parametrize("name", GUIDANCES)
def test_guidance_samples_a_checkpoint(name, images, place):
    guidance = [word.format(run=images) for word in GUIDANCES[name]]
    sample = ["sample", f"checkpoint={images}", "num_samples=3", "label=1", "weights=raw"]
    sample += ["sampler=euler", "sampler.num_steps=4"]
    assert main([*sample, "out=plain.pt"]) == 0
    assert main([*sample, "out=guided.pt", f"guidance={name}", *guidance]) == 0
    plain, guided = (
        torch.load(f"{out}.pt", weights_only=True)["samples"] for out in ("plain", "guided")
    )
    # A model guided away from itself is left where it is; the others move.
    assert torch.equal(plain, guided) == (name == "auto")
