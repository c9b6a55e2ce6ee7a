"""``flowgen fit-sampler``: the exported file loads and samples with what was fitted."""

import pytest
import torch

import flowgen
from flowgen.cli import main
from flowgen.integrators import Explicit, NonStationary, Sampler, Uniform, UniPC

RUN = ["data=moons", "data.num_train=300", "data.num_test=50", "model=mlp", "data.batch_size=64"]
RUN += ["trainer.max_steps=60", "callbacks=quiet", "run_dir=run", "optimizer.lr=3e-3"]
FIT = ["fit-sampler", "checkpoint=run", "num_samples=48", "iterations=4", "teacher_steps=20"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *RUN]) == 0


@pytest.mark.parametrize("solver", [False, True])
def test_fitted_model_is_saved_and_samples(solver, run, capsys):
    words = ["sampler.num_steps=3", f"solver={str(solver).lower()}", "out=fast.safetensors"]
    capsys.readouterr()
    assert main([*FIT, *words]) == 0
    told = capsys.readouterr().out
    assert "evaluations of the field for each sample: 3" in told
    assert "time grid: 0, " in told
    plain, fast = flowgen.load("run"), flowgen.load("fast.safetensors")
    assert isinstance(fast.sampler.grid, Explicit)
    assert isinstance(fast.sampler.stepper, NonStationary if solver else UniPC)
    assert fast.nfe() == 3
    fine = plain.with_sampler(Sampler(UniPC(), Uniform(), 100)).sample(100, seed=7)
    few = plain.with_sampler(Sampler(UniPC(), Uniform(), 3)).sample(100, seed=7)
    assert (fast.sample(100, seed=7) - fine).norm() < (few - fine).norm()
    assert fast.about["fitted"]["after"] < fast.about["fitted"]["before"]
    # and the command line takes it as it is
    assert main(["sample", "checkpoint=fast.safetensors", "num_samples=5", "out=a.pt"]) == 0
    samples = torch.load("a.pt", weights_only=True)["samples"]
    torch.testing.assert_close(samples, fast.sample(5), rtol=0, atol=1e-5)
    assert main(["sample", "checkpoint=fast.safetensors", "sampler.num_steps=9"]) == 2
    assert "num_steps must be 3" in capsys.readouterr().err


def test_default_place_and_stored_sampler(run):
    assert main([*FIT, "sampler=stored", "sampler.num_steps=2", "guidance.scale=1"]) == 0
    fast = flowgen.load("run/fitted.safetensors")
    assert fast.config["sampler"]["stepper"] == flowgen.load("run").config["sampler"]["stepper"]
    assert fast.sampler.num_steps == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["out=fast.pt"], "is exported with its model as .safetensors"),
        (["sampler.num_steps=1"], "num_steps must be >= 2"),
        (["iterations=0"], "iterations must be >= 1"),
        (["teacher_steps=0"], "teacher_steps must be >= 1"),
        (["num_samples=0"], "num_samples must be >= 1"),
        (["sampler=euler_maruyama"], "only an ODE sampler can be fitted"),
    ],
)
def test_refusals_are_one_line(words, message, run, capsys):
    assert main([*FIT, *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
