"""Likelihood and round trip as measures."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.data import Digits, EightGaussians, PointData
from flowgen.evaluation import Likelihood, RoundTrip, Setting, Shards, measured
from flowgen.integrators import RK4, Hutchinson, Sampler, Uniform
from sharing import together
from small import built, image_config, vector_config

DATA = PointData(EightGaussians(radius=2.0), num_train=60, num_test=60)


def digits():
    config = image_config()
    config["field"]["network"] |= {"shape": [1, 8, 8], "num_classes": 10}
    config["source"]["shape"] = [1, 8, 8]
    config["conditioner"] |= {"num_classes": 10, "names": [str(i) for i in range(10)]}
    return built(config)


def test_points_have_their_nats_beside_the_entropy_of_the_data():
    pipeline = built(vector_config())
    setting = Setting(pipeline, DATA, 10)
    found = measured([Likelihood(20)], setting)["likelihood"]
    held_out = setting.real(DATA.test, 20)["x_1"]
    assert found["nll"] == pytest.approx(-float(pipeline.log_likelihood(held_out).mean()), abs=1e-3)
    assert found["nll_floor"] == pytest.approx(
        -float(DATA.distribution.log_prob(held_out).mean()), rel=1e-5
    )
    # No density has a smaller cross entropy than the data's own; 20 points tell them apart here.
    assert found["nll"] > found["nll_floor"]
    assert found["nll_standard_error"] > 0
    assert "exact" in found["divergence"]


def test_images_have_bits_and_the_same_ones_in_every_process():
    pipeline = digits()
    measure = Likelihood(4, Hutchinson(), chunk=3, sampler=Sampler(RK4(), Uniform(), 3))

    def bits(shards):
        return measured([measure], Setting(pipeline, Digits(), 10, shards=shards))["likelihood"]

    alone = bits(Shards())
    assert alone["bits_per_dim"] > 0
    assert "256 grey levels" in alone["dequantisation"]
    for found in together(bits, 2):
        assert found["bits_per_dim"] == pytest.approx(alone["bits_per_dim"], rel=1e-3)


def test_round_trip_falls_with_the_steps():
    pipeline = digits()
    errors = []
    for steps in (8, 64):
        setting = Setting(pipeline.with_sampler(Sampler(RK4(), Uniform(), steps)), Digits(), 10)
        found = measured([RoundTrip(5)], setting)["round trip"]
        errors.append(found["round_trip_rmse"])
        assert found["held-out samples"] == 5
        assert math.isfinite(found["round_trip_psnr"])
    assert errors[1] < 0.1 * errors[0]


class Silent:
    def sample(self, n, *, generator=None, device=None):
        return torch.randn(n, 2, generator=generator)


def test_measures_say_why_they_do_not_fit():
    pipeline = built(vector_config())
    pipeline.source = Silent()
    assert "no density" in Likelihood().unfit(Setting(pipeline, DATA, 10))
    for make in (lambda: Likelihood(1), lambda: Likelihood(chunk=0), lambda: RoundTrip(0)):
        with pytest.raises(InputError, match="must be >="):
            make()
