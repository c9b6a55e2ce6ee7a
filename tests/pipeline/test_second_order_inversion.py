"""Inversion of second order: the step of RF-Solver is the midpoint step, and errors fall so."""

import math

import pytest
import torch
from torch import nn

from flowgen.data import Gaussian, Identity
from flowgen.integrators import Euler, Heun, Midpoint, Sampler, Uniform
from flowgen.models import PredictionField
from flowgen.paths import AffinePath, Linear, Velocity
from flowgen.pipeline import Pipeline
from flowgen.pipeline.editing import Inversion, edited, inverted


def rf_solver(field, x, s, t):
    """Wang et al. 2024, eq. 8 to 10: a Taylor step of second order, its derivative a difference."""
    h = t - s
    v = field(x, s)
    ahead = field(x + h / 2 * v, s + h / 2)
    derivative = (ahead - v) / (h / 2)
    return x + h * v + h**2 / 2 * derivative


def bent(x, t, cond=None):
    t = torch.as_tensor(t, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return torch.sin(3 * x + t) - x * t**2


@pytest.mark.parametrize(("s", "t"), [(0.1, 0.35), (0.9, 0.6)])
def test_the_step_of_rf_solver_is_the_midpoint_step(s, t):
    x = torch.linspace(-2, 3, 12, dtype=torch.float64).reshape(4, 3)
    own = Midpoint().step(bent, x, s, t)
    torch.testing.assert_close(own, rf_solver(bent, x, s, t), rtol=1e-13, atol=1e-13)
    # Heun's step is of the same order, but another one.
    assert (Heun().step(bent, x, s, t) - own).abs().max() > 1e-4


class TwoModes(nn.Module):
    """The velocity of data half at N(-0.5, 0.6^2), half at N(1, 0.8^2), of every entry alone."""

    means, deviations = (-0.5, 1.0), (0.6, 0.8)

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x, t, cond=None):
        t = t.reshape(-1, *[1] * (x.ndim - 1))
        scores, velocities = [], []
        for mean, deviation in zip(self.means, self.deviations, strict=True):
            variance = (t * deviation) ** 2 + (1 - t) ** 2
            scores.append(-((x - t * mean) ** 2) / (2 * variance) - variance.log() / 2)
            slope = (t * deviation**2 - (1 - t)) / variance
            velocities.append(mean + slope * (x - t * mean))
        share = torch.softmax(torch.stack(scores), dim=0)
        return (share * torch.stack(velocities)).sum(dim=0)


def true_noise(x):
    """The monotone map: the quantile of the data, of the normal distribution."""
    normal = torch.distributions.Normal
    zero = torch.zeros((), dtype=torch.float64)
    parts = zip(TwoModes.means, TwoModes.deviations, strict=True)
    rank = sum(normal(zero + mean, zero + deviation).cdf(x) for mean, deviation in parts) / 2
    return normal(zero, zero + 1).icdf(rank)


def pipeline(stepper, steps):
    path = AffinePath(Linear())
    field = PredictionField(TwoModes(), path, Velocity()).double()
    return Pipeline(field, Gaussian([3]), Sampler(stepper, Uniform(), steps), Identity())


X = torch.linspace(-1.5, 2.8, 24, dtype=torch.float64).reshape(8, 3)


def orders(stepper, error):
    errors = [error(pipeline(stepper, steps)) for steps in (64, 128)]
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize(
    ("stepper", "order", "back"), [(Euler(), 1, 1), (Midpoint(), 2, 3), (Heun(), 2, 3)], ids=str
)
def test_the_error_of_the_noise_and_of_the_way_back_fall_at_their_orders(stepper, order, back):
    def of_noise(own):
        return float((inverted(own, X, chunk=5) - true_noise(X)).norm())

    def of_the_round_trip(own):
        return float((edited(own, X, Inversion()) - X).norm())

    assert abs(orders(stepper, of_noise) - order) < 0.1
    # What a step of even order misses has the sign of its direction: forth takes away what back
    # has added, and the round trip gains an order.
    assert abs(orders(stepper, of_the_round_trip) - back) < 0.05


def test_at_equal_evaluations_the_second_order_is_far_nearer():
    euler, midpoint = pipeline(Euler(), 40), pipeline(Midpoint(), 20)
    far, near = (float((edited(own, X, Inversion()) - X).abs().max()) for own in (euler, midpoint))
    assert near < far / 1000
