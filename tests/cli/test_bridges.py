"""Bridges from the command line: trained with their score, sampled by ODE and SDE, else refused."""

import pytest
import torch

import flowgen
from flowgen.cli import main

RUN = ["data=moons", "data.num_train=256", "data.num_test=50", "data.batch_size=64"]
RUN += ["model=mlp", "model.width=16", "model.depth=1", "trainer=cpu", "trainer.max_steps=4"]
RUN += ["callbacks=quiet", "trainer.log_every_n_steps=2"]
BRIDGE = ["path=schroedinger_bridge", "coupling=entropic_bridge", "objective=flow_and_score"]


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_bridge_is_trained_sampled_and_gone_on_with(tmp_path, capsys):
    words = ["train", *RUN, *BRIDGE, "source=eight_gaussians", "run_dir=run"]
    assert main(words) == 0
    rows = [line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    row = dict(zip(rows[0], rows[-1], strict=True))
    total = float(row["loss/velocity"]) + float(row["loss/score"])
    assert total > 0
    pipeline = flowgen.load("run", device="cpu")
    assert sum(name.startswith("noise_network.") for name, _ in pipeline.field.named_parameters())
    # From data to data: no score follows from the velocity, and this one was learnt.
    for sampler in ("heun", "interpolant_sde"):
        out = [f"sampler={sampler}", "num_samples=6", "sampler.num_steps=3", f"out={sampler}.pt"]
        assert main(["sample", "checkpoint=run", *out]) == 0
    found = [
        torch.load(f"{s}.pt", weights_only=True)["samples"] for s in ("heun", "interpolant_sde")
    ]
    assert not torch.equal(*found)
    assert main(["train", "resume=run", "trainer.max_steps=6"]) == 0
    assert main(["evaluate", "checkpoint=run", "sampler=interpolant_sde", "num_samples=50"]) == 0


def test_bridge_and_pairs_of_another_scale_are_taken_where_nothing_contradicts():
    both = ["path.noise.scale=0.5", "coupling.epsilon.sigma=0.5"]
    smooth = ["path.noise._target_=flowgen.paths.Parabola", "path.noise.scale=0.5"]
    for number, words in enumerate((both, smooth)):
        assert main(["train", *RUN, *BRIDGE, *words, f"run_dir=run{number}"]) == 0


def test_combinations_that_mean_nothing_are_refused_in_a_line(tmp_path, capsys):
    assert main(["train", *RUN, "path=schroedinger_bridge", "run_dir=velocity"]) == 0
    assert main(["train", *RUN, *BRIDGE, "run_dir=both"]) == 0
    capsys.readouterr()
    train = ["train", *RUN, "run_dir=run"]
    for words, part in (
        ([*train, "objective=flow_and_score"], "needs a path with latent noise"),
        ([*train, *BRIDGE, "prediction=data"], "use prediction=velocity"),
        ([*train, BRIDGE[0], "prediction@loss_space=noise"], "loss_space=velocity"),
        ([*train, *BRIDGE, "sampler=euler_maruyama"], "wrong for a path with noise of its own"),
        ([*train, "sampler=interpolant_sde"], "a score that was learnt"),
        ([*train, *BRIDGE, "path.margin=0.6"], "margin must be in (0, 0.5)"),
        ([*train, *BRIDGE, "path.noise.scale=0"], "scale of latent noise"),
        ([*train, *BRIDGE, "path.noise.scale=0.5"], "set coupling.epsilon.sigma=0.5"),
        ([*train, *BRIDGE, "coupling.epsilon.sigma=2"], "sigma=2 and path.noise.scale=1 must be"),
        (["sample", "checkpoint=velocity", "sampler=interpolant_sde"], "a score that was learnt"),
        (["sample", "checkpoint=both", "sampler=edm_churn"], "wrong for a path with noise"),
        (["sample", "checkpoint=both", "path=trig"], "cannot be changed"),
        (["fit-path", "checkpoint=velocity"], "no noise of its own"),
        (["fit-expressway", "checkpoint=velocity"], "needs a model with an affine path"),
    ):
        assert main(words) == 2, words
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1, err
        assert part in err[0], err[0]
    assert not (tmp_path / "run").exists()
