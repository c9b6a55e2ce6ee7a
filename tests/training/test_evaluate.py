"""Evaluation during training: figures when due, and a training that does not notice."""

import logging

import numpy as np
import pytest
import torch

from evaluate_runs import DATA, callback, figures, fit, read
from flowgen.core import InputError
from flowgen.evaluation import ImageDistance, Transport
from flowgen.pipeline import load
from flowgen.training import Checkpoints, Evaluate
from flowgen.training.loggers import MetricsFile
from runs import flow
from small import vector_config
from two_processes import in_fresh_process


class Restless(Transport):
    """A measure that uses the global generators, as a careless package would."""

    def begin(self, setting):
        torch.rand(3)
        np.random.rand(3)  # noqa: NPY002
        return super().begin(setting)


def test_figures_are_written_when_due_and_after_the_last_step(tmp_path):
    _, module = fit(tmp_path, [callback(tmp_path)], logger=MetricsFile(tmp_path))
    found = read(tmp_path)
    assert list(found) == [f"step_000000{n}.json" for n in (2, 4, 5)]
    last = found["step_0000005.json"]
    assert last["step"] == last["protocol"]["step"] == 5
    assert last["protocol"]["steps"] == 2
    assert list(last["figures"]) == ["distance to held-out points"]
    w2 = last["figures"]["distance to held-out points"]["w2"]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("eval/w2")
    assert [line.split(",")[column] for line in lines[1:]][-1] == repr(w2)
    # With the averaged weights, which two steps have not made equal to the raw ones.
    from flowgen.evaluation import Setting, measured

    pipeline = module.averaged()
    pipeline = pipeline.with_sampler(pipeline.sampler.with_num_steps(2))
    again = measured([Transport(30)], Setting(pipeline, DATA, 30))
    assert again["distance to held-out points"]["w2"] == pytest.approx(w2, rel=1e-5)


def test_training_is_the_same_bit_for_bit(tmp_path):
    def trained(*callbacks):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        state = fit(tmp_path, list(callbacks))[1].state_dict()
        return state, torch.rand(2), np.random.rand(2)  # noqa: NPY002

    plain, watched = trained(), trained(callback(tmp_path, measures={"a": Restless(30)}))
    for name, value in plain[0].items():
        assert torch.equal(value, watched[0][name]), name
    assert torch.equal(plain[1], watched[1])
    assert (plain[2] == watched[2]).all()


def test_best_checkpoint_is_that_of_the_best_figure(tmp_path):
    best = Checkpoints(tmp_path, every_n_steps=1, best_metric="eval/w2", best_mode="max")
    fit(tmp_path, [best, callback(tmp_path, every_n_steps=1)], steps=4)
    figures = {
        content["step"]: content["figures"]["distance to held-out points"]["w2"]
        for content in read(tmp_path).values()
    }
    step = max(figures, key=lambda n: figures[n])
    assert load(tmp_path / "checkpoints" / "best.ckpt").about["step"] == step


def test_a_run_that_goes_on_forgets_the_future_it_left(tmp_path):
    fit(tmp_path, [callback(tmp_path)], steps=6)
    whole = read(tmp_path)
    (tmp_path / "evaluations" / "step_0000009.json").write_text("{}")
    fit(tmp_path, [callback(tmp_path)], steps=6)
    again = read(tmp_path)
    assert again.keys() == whole.keys()
    for name, content in whole.items():
        assert again[name]["figures"] == content["figures"]


def test_a_model_that_has_diverged_costs_a_warning(tmp_path, caplog):
    module = flow(vector_config())
    made = callback(tmp_path)

    class Broken(type(made)):
        def _pipeline(self, module):
            pipeline = super()._pipeline(module)
            for parameter in pipeline.field.parameters():
                parameter.data.fill_(float("nan"))
            return pipeline

    made.__class__ = Broken
    with caplog.at_level(logging.WARNING):
        trainer, _ = fit(tmp_path, [made], steps=2, module=module)
    assert trainer.global_step == 2
    assert "was not evaluated" in caplog.text
    assert not (tmp_path / "evaluations").exists()


def test_a_full_disk_costs_a_warning(tmp_path, caplog):
    (tmp_path / "evaluations").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        trainer, _ = fit(tmp_path, [callback(tmp_path)], steps=2)
    assert "no file of the evaluation of step 2" in caplog.text
    assert trainer.callback_metrics["eval/w2"] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"every_n_steps": 0},
        {"num_samples": 1},
        {"num_steps": 0},
        {"chunk": 0},
        {"seed": -1},
    ],
)
def test_numbers_out_of_range_are_refused(changes, tmp_path):
    with pytest.raises(InputError, match=f"callbacks.evaluate.{next(iter(changes))}"):
        callback(tmp_path, **changes)


def test_nothing_to_measure_is_told_before_training(tmp_path):
    with pytest.raises(InputError, match="no measure fits"):
        callback(tmp_path, measures={"images": ImageDistance("pixels")})
    with pytest.raises(InputError, match="needs data"):
        fit(tmp_path, [Evaluate(tmp_path, {"transport": Transport()})])


def test_two_processes_find_what_one_finds(tmp_path):
    alone = figures(tmp_path / "alone")
    shared = in_fresh_process(figures, tmp_path / "shared", strategy="ddp_fork", devices=2)
    assert shared["protocol"] == alone["protocol"]
    for group, values in alone["figures"].items():
        for name, value in values.items():
            expected = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            assert shared["figures"][group][name] == expected, name
