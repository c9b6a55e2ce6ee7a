"""Straightness as one figure: that of the trajectories, once for each model."""

import pytest

from flowgen.data import EightGaussians, PointData
from flowgen.evaluation import Paths, Setting, Straightness, measured
from flowgen.integrators import Euler, Sampler, Uniform
from small import built, vector_config


@pytest.fixture
def setting():
    data = PointData(EightGaussians(), num_train=50, num_test=20)
    return Setting(built(vector_config()), data, 20, seed=2)


def test_it_is_one_of_the_figures_of_trajectories(setting):
    settings = {"steps": 6, "num_samples": 9}
    paths = measured([Paths(**settings)], setting)["paths"]
    figures = measured([Straightness(**settings)], setting)["straightness"]
    assert figures == {"straightness": paths["straightness"]}
    assert paths["straightness"] > 0


def test_it_is_measured_once_for_each_model(setting):
    calls = []
    measure = Straightness(steps=4, num_samples=5)
    field = setting.pipeline.field
    field.register_forward_hook(lambda *_: calls.append(1))
    one = measured([measure], setting)
    first = len(calls)
    sampler = Sampler(Euler(), Uniform(), 2)
    other = measured([measure], setting.of(setting.pipeline.with_sampler(sampler)))
    assert len(calls) == first > 0
    assert one == other
    third = measured([measure], setting.of(built(vector_config(), seed=5)))
    assert third != one
