"""The Monge gap of a pipeline: of a map that is optimal, of one that is not, and refused."""

import pytest
import torch
from torch import nn

from flowgen.core import InputError
from flowgen.data import EightGaussians, PointData
from flowgen.evaluation import MongeGap, Setting, measured
from flowgen.metrics import map_cost
from small import built, vector_config


class Linear(nn.Module):
    """``v = M x``: its flow ends at ``exp(M) x``."""

    domain = (0.0, 1.0)

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor(matrix))

    def forward(self, x, t, cond=None):
        return x @ self.matrix.T


def setting_of(matrix):
    data = PointData(EightGaussians(), num_train=50, num_test=20)
    return Setting(built(vector_config()).with_field(Linear(matrix)), data, 40, seed=2)


def test_a_stretch_has_no_gap_and_a_turn_has():
    stretch = setting_of([[0.5, 0.1], [0.1, -0.3]])
    found = measured([MongeGap(40)], stretch)["monge gap"]
    assert found["relative_gap"] == pytest.approx(0, abs=1e-6)
    assert found["map_cost"] > 0
    turned = measured([MongeGap(40)], setting_of([[0.0, -2.5], [2.5, 0.0]]))["monge gap"]
    assert turned["relative_gap"] > 0.5
    assert turned["monge_gap"] == pytest.approx(turned["relative_gap"] * turned["map_cost"])


def test_it_is_that_of_starts_and_samples():
    setting = setting_of([[0.0, -1.5], [1.5, 0.0]])
    ends = setting.pipeline.sample(30, seed=2, decode=False)
    expected = map_cost(setting.pipeline.noise(2, range(30)), ends)
    assert measured([MongeGap(30)], setting)["monge gap"]["monge_gap"] == pytest.approx(
        expected.gap
    )


def test_no_more_starts_than_samples():
    setting = setting_of([[0.0, -1.5], [1.5, 0.0]])
    assert measured([MongeGap(500)], setting)["monge gap"]["starts"] == 40


def test_bad_input():
    with pytest.raises(InputError, match="num_samples must be >= 2"):
        MongeGap(1)
