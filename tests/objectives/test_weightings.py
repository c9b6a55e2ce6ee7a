"""Weights against the closed forms of the papers, and finite wherever a path is."""

import math

import pytest
import torch

from flowgen.core import Coefficients, InputError
from flowgen.objectives import (
    Constant,
    CosMap,
    CosMapWeight,
    Equivalent,
    Likelihood,
    SigmaSqrt,
    Weighting,
)
from flowgen.paths import (
    EDM,
    VP,
    AffinePath,
    Cosine,
    Data,
    EDMPrediction,
    Linear,
    LinearVP,
    Noise,
    SalimansV,
    Trig,
    Velocity,
)

TIMES = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
SCHEDULES = [Linear(), Linear(0.05), Trig(), LinearVP(), VP(), Cosine(), EDM()]
SPACES = [Velocity(), Data(), Noise(), SalimansV(), EDMPrediction(0.7)]


class Score:
    """``-x_0 / sigma``: a prediction of somebody else's."""

    def __call__(self, coefficients):
        return torch.zeros_like(coefficients.sigma), -1 / coefficients.sigma


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_equivalents_of_the_velocity_loss(schedule):
    c = schedule(TIMES)
    delta = c.d_alpha * c.sigma - c.alpha * c.d_sigma
    expected = {
        Noise(): delta / c.alpha,
        Data(): delta / c.sigma,
        Velocity(): torch.ones_like(TIMES),
    }
    for space, factor in expected.items():
        torch.testing.assert_close(Equivalent(space)(TIMES, c), factor.square())
    weight = Equivalent(Score())(TIMES, c)
    torch.testing.assert_close(weight, (c.sigma * delta / c.alpha).square())


def test_equivalents_on_the_linear_path():
    c = Linear()(TIMES)
    torch.testing.assert_close(Equivalent(Noise())(TIMES, c), TIMES**-2)
    torch.testing.assert_close(Equivalent(Data())(TIMES, c), (1 - TIMES) ** -2)


def test_edm_weight_of_a_denoiser():
    """lambda = (s^2 + sd^2) / (s sd)^2 at alpha = 1."""
    level = torch.tensor([0.002, 0.3, 5.0, 80.0], dtype=torch.float64)
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    c = Coefficients(one, level, zero, -one)
    weight = Equivalent(Data(), EDMPrediction(0.5))(level, c)
    torch.testing.assert_close(weight, (level**2 + 0.25) / (0.5 * level) ** 2)


def test_edm_weight_of_a_velocity():
    """1 / c_out^2 with c_out = sd Delta / sqrt(alpha^2 sd^2 + sigma^2)."""
    c = Trig()(TIMES)
    variance = (0.6 * c.alpha) ** 2 + c.sigma**2
    weight = Equivalent(Velocity(), EDMPrediction(0.6))(TIMES, c)
    torch.testing.assert_close(weight, variance / (0.6 * math.pi / 2) ** 2)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_likelihood_weight_is_the_rate_of_the_log_ratio(schedule):
    t = TIMES.clone().requires_grad_()
    c = schedule(t)
    (rate,) = torch.autograd.grad(torch.log(c.alpha / c.sigma).sum(), t)
    torch.testing.assert_close(Likelihood()(t, c).detach(), rate)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_likelihood_measures_entropy_in_nats(space):
    """For N(m, s^2) the integral of weight times least loss grows by log s, like the entropy."""
    t = torch.linspace(1e-5, 1 - 1e-5, 200_001, dtype=torch.float64)
    c = Linear()(t)
    a, b = space(c)
    bounds = []
    for s in (0.7, 1.9):
        variance = (c.alpha * s) ** 2 + c.sigma**2
        least = (a * s) ** 2 + b**2 - (a * c.alpha * s**2 + b * c.sigma) ** 2 / variance
        bounds.append(torch.trapezoid(Likelihood(space, 1e-6)(t, c) * least, t))
    assert float(bounds[1] - bounds[0]) == pytest.approx(math.log(1.9 / 0.7), abs=1e-3)


def test_weights_named_in_diffusers():
    c = Linear()(TIMES)
    torch.testing.assert_close(SigmaSqrt()(TIMES, c), (1 - TIMES) ** -2)
    sigma = Trig()(TIMES).sigma
    expected = 2 / (math.pi * (1 - 2 * sigma + 2 * sigma**2))
    torch.testing.assert_close(CosMapWeight()(TIMES, Trig()(TIMES)), expected)
    torch.testing.assert_close(CosMapWeight()(TIMES, c), CosMap().density(TIMES))


def test_constant_is_its_value():
    assert torch.equal(Constant(2.5)(TIMES, Linear()(TIMES)), torch.full_like(TIMES, 2.5))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_finite_and_positive_on_the_closed_domain(schedule, dtype):
    path = AffinePath(schedule)
    t = torch.tensor(path.domain, dtype=dtype)
    c = path.coefficients(t)
    weightings = [
        *(Equivalent(space, to) for space in SPACES for to in (Velocity(), EDMPrediction(0.5))),
        *(Likelihood(space) for space in SPACES),
        SigmaSqrt(),
        CosMapWeight(),
        Constant(),
    ]
    for weighting in weightings:
        assert isinstance(weighting, Weighting)
        weight = weighting(t, c)
        assert weight.shape == (2,)
        assert weight.dtype == dtype
        assert bool(weight.isfinite().all()), weighting
        assert bool((weight >= 0).all()), weighting


def test_floor_binds_only_below_itself():
    t = torch.tensor([0.0, 5e-4, 1e-3, 0.1], dtype=torch.float64)
    weight = Equivalent(Noise(), floor=1e-3)(t, Linear()(t))
    torch.testing.assert_close(weight, torch.tensor([1e6, 1e6, 1e6, 100.0], dtype=torch.float64))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constant(0.0),
        lambda: Constant(math.inf),
        lambda: Equivalent(Noise(), floor=0.0),
        lambda: Likelihood(floor=1.0),
        lambda: SigmaSqrt(-1.0),
    ],
)
def test_parameters_are_checked(make):
    with pytest.raises(InputError, match=r"(value|floor) must be"):
        make()
