"""``flowgen fit-path``: the table, the plot, and what training and sampling make of it."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import flowgen
from flowgen.cli import main
from flowgen.paths import AffinePath, Linear, Rescheduled, Tabulated, Trig
from flowgen.pipeline.score import independent_pairs
from kinetic_data import write_table

POINTS = ["data=eight_gaussians", "data.num_train=400", "data.num_test=300"]
SMALL = ["num_noise=64", "num_ratios=9", "num_points=300"]
TRAIN = [*POINTS, "model=mlp", "model.width=32", "data.batch_size=64", "callbacks=quiet"]
FITTED = ["path=kinetic_optimal", "path.schedule.file=table.json"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "table.json")
    return tmp_path


def train(*words, run="run", steps=3):
    assert main(["train", *TRAIN, f"trainer.max_steps={steps}", f"run_dir={run}", *words]) == 0


def schedule_of(run):
    return flowgen.load(run, device="cpu").field.path.schedule


def test_points_give_a_table_a_plot_and_the_override(place, capsys):
    assert main(["fit-path", *POINTS, *SMALL, "data.name=eight"]) == 0
    told = capsys.readouterr().out
    found = json.loads((place / "kinetic_eight.json").read_text())
    assert found["protocol"]["num_points"] == 300
    assert len(found["curve"]["snr"]) == 9
    energies = {row["path"]: row["energy"] for row in found["paths"]}
    assert list(energies) == ["fitted", "linear", "trig", "linear_vp", "vp"]
    assert energies["fitted"] == min(energies.values())
    assert "% more energy than the fitted one" in told
    with Image.open(place / "kinetic_eight.png") as picture:
        assert picture.size[0] > 1000
    words = told.split("train with: ")[1].splitlines()[0].split()
    train(*words)
    assert len(schedule_of("run").psi) == 65
    assert float(schedule_of("run").scale) == pytest.approx(
        (found["curve"]["variance"] + found["curve"]["mean_square"]) ** 0.5
    )


def test_neither_sampling_nor_going_on_needs_the_file(place, capsys):
    train(*FITTED, steps=4)
    (place / "table.json").unlink()
    assert "file" not in OmegaConf.load("run/config.yaml").path.schedule
    assert isinstance(schedule_of("run"), Tabulated)
    assert main(["sample", "checkpoint=run", "num_samples=3", "out=a.pt"]) == 0
    assert main(["train", "resume=run", "trainer.max_steps=6"]) == 0
    assert main(["evaluate", "checkpoint=run", "num_samples=20", "measures=[transport]"]) == 0
    train("checkpoint=run", run="again")  # the weights alone, along the linear path
    assert isinstance(schedule_of("again"), Linear)


def test_the_command_that_began_a_run_goes_on_with_it(place):
    train(*FITTED, steps=4)
    words = [*TRAIN, *FITTED, "trainer.max_steps=6"]
    assert main(["train", *words, "resume=run"]) == 0
    assert main(["train", *words, "resume=auto", "run_dir=run"]) == 0


def test_weights_of_another_path_leave_the_table_as_it_is(place):
    train(run="straight")
    train(*FITTED, "checkpoint=straight")
    config = OmegaConf.to_container(OmegaConf.load("run/config.yaml").path.schedule)
    assert schedule_of("run").psi.tolist() == config["psi"]
    # Another table than that of the run whose weights are taken.
    other = Tabulated(psi=torch.linspace(0, 1, 9, dtype=torch.float64), scale=2.0)
    flowgen.pipeline.save_schedule(other, place / "other.json", {})
    words = ["path=kinetic_optimal", "path.schedule.file=other.json", "checkpoint=run"]
    train(*words, run="third")
    assert torch.equal(schedule_of("third").psi, other.psi)


def test_a_model_is_sampled_along_a_fitted_path(place):
    train(steps=200)
    sample = ["sample", "checkpoint=run", "num_samples=50", "sampler=rk4"]
    assert main([*sample, "sampler.num_steps=60", "out=a.pt"]) == 0
    assert main([*sample, "sampler.num_steps=60", "out=b.pt", *FITTED]) == 0
    one, other = (torch.load(f"{out}.pt", weights_only=True)["samples"] for out in "ab")
    torch.testing.assert_close(one, other, rtol=0, atol=0.05)
    assert not torch.equal(one, other)


def test_a_model_tells_the_path_by_its_losses(place, capsys):
    train(steps=100)
    words = ["num_samples=200", "num_ratios=7", "checkpoint=run", "chunk=64"]
    assert main(["fit-path", *words]) == 0
    found = json.loads((place / "run" / "kinetic_path.json").read_text())
    assert found["protocol"]["num_held_out"] == 200
    assert (place / "run" / "kinetic_path.png").is_file()
    told = capsys.readouterr().out
    assert "path.schedule.file=run/kinetic_path.json" in told
    assert "warning" not in told


def test_labels_reach_the_model(place):
    small = ["model=dit_tiny", "model.width=16", "model.depth=1", "model.heads=2"]
    words = ["data=digits", *small, "data.batch_size=16", "callbacks=quiet"]
    assert main(["train", *words, "trainer.max_steps=2", "run_dir=run"]) == 0
    assert main(["fit-path", "checkpoint=run", "num_samples=20", "num_ratios=3"]) == 0


def test_few_points_in_many_dimensions_are_told(place, capsys):
    assert main(["fit-path", "data=digits", "num_points=200", "num_noise=50"]) == 0
    told = capsys.readouterr().out
    assert "warning: 200 points in 64 dimensions do not tell the energy" in told
    assert "flowgen fit-path checkpoint=" in told


def test_data_like_a_gaussian_get_trig(place, capsys):
    gaussian = ["data=mixture", "data.distribution.means=[[0,0]]", "data.distribution.stds=1"]
    gaussian.append("data.distribution.weights=null")
    assert main(["fit-path", *gaussian, "num_noise=400", "num_ratios=15", "out=g.json"]) == 0
    assert "the data are like a Gaussian" in capsys.readouterr().out
    train("path=kinetic_optimal", "path.schedule.file=g.json")
    assert isinstance(schedule_of("run"), Trig)


def test_a_followed_schedule_is_where_the_model_is(place):
    """Its table has to move with the field; on one machine the kind of number shows it."""
    field = Rescheduled(torch.nn.Identity(), Linear(), Tabulated())
    assert {buffer.dtype for buffer in field.to(torch.float32).buffers()} == {torch.float32}
    objective = flowgen.objectives.FlowMatching(AffinePath(Tabulated()))
    assert "path.schedule.psi" in dict(objective.named_buffers())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of data=<name>"),
        ([*POINTS, "checkpoint=run"], "give one of data=<name>"),
        ([*POINTS, "out=a.csv"], "written as .json"),
        ([*POINTS, "floor=1"], "floor must be in [0, 1)"),
        ([*POINTS, "num_points=1"], "num_points must be >= 2"),
        ([*POINTS, "num_noise=3"], "num_noise must be >= 4"),
        ([*POINTS, "num_ratios=0"], "num_nodes must be >= 1"),
        ([*POINTS, *SMALL, "num_nodes=2"], "num_nodes must be >= 3"),
        ([*POINTS, "seed=-1"], "seed must be >= 0"),
        ([*POINTS, "chunk=0"], "chunk must be >= 1"),
        (["checkpoint=none"], "no checkpoint"),
    ],
)
def test_refusals_are_one_line(words, message, place, capsys):
    assert main(["fit-path", *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert [file.name for file in place.iterdir()] == ["table.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["coupling=exact_assignment"], "ties noise to data"),
        # Its score is known, and yet the noise follows from the data.
        (["coupling=semidiscrete", "coupling.file=fit.safetensors"], "ties noise to data"),
        (["source=moons"], "starts from Moons"),
    ],
)
def test_models_whose_loss_tells_something_else_are_refused(words, message, place, capsys):
    if "coupling=semidiscrete" in words:
        fit = ["threshold=30", "out=fit.safetensors"]
        assert main(["fit-coupling", *POINTS, *fit]) == 0
    train(*words)
    assert main(["fit-path", "checkpoint=run"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("about", "independent"),
    [
        ({}, False),
        ({"score_valid": True}, True),
        ({"score_valid": False}, False),
        ({"score_valid": True, "independent_pairs": False}, False),
        ({"score_valid": True, "independent_pairs": True}, True),
    ],
)
def test_an_older_checkpoint_is_believed_by_its_score(about, independent):
    assert independent_pairs(about) == independent
