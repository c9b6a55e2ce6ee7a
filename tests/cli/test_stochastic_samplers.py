"""A model says whether its score is known; stochastic samplers are refused where it is not."""

import pytest

import flowgen
from flowgen.cli import main

RUN = ["data=moons", "data.num_train=300", "data.num_test=50", "model=mlp", "data.batch_size=16"]
RUN += ["trainer.max_steps=2", "callbacks=quiet", "run_dir=run", "conditional=false"]


@pytest.mark.parametrize("coupling", ["independent", "exact_assignment"])
def test_score_valid_is_in_the_checkpoint(coupling, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *RUN, f"coupling={coupling}"]) == 0
    assert flowgen.load("run").about["score_valid"] == (coupling == "independent")
    sample = ["sample", "checkpoint=run", "num_samples=2", "out=a.pt", "sampler.num_steps=3"]
    capsys.readouterr()
    code = main([*sample, "sampler=euler_maruyama"])
    assert code == (0 if coupling == "independent" else 2)
    if code:
        told = capsys.readouterr().err
        assert "EulerMaruyama needs the score" in told
        assert "sampler=heun" in told
        assert "Traceback" not in told


def test_a_training_that_could_not_show_its_samples_does_not_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", *RUN, "coupling=exact_assignment", "sampler=edm_churn"]
    assert main(words) == 2
    assert "EDMChurn needs the score" in capsys.readouterr().err
