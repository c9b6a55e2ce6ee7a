"""Stochastic interpolants: derivative, conditional score, and Gaussian ends in closed form."""

import math

import pytest
import torch

from flowgen.core import InputError, Pair
from flowgen.paths import (
    BrownianBridge,
    Data,
    Linear,
    Parabola,
    SquaredSine,
    StochasticInterpolant,
    Trig,
    velocity_domain,
)

NOISES = [BrownianBridge(0.7), Parabola(2.0), SquaredSine(0.5)]


def pair_of(n, generator, shape=(3,)):
    x_0 = torch.randn(n, *shape, generator=generator, dtype=torch.float64) + 0.5
    return Pair(x_0, 2 * torch.randn(n, *shape, generator=generator, dtype=torch.float64) - 1)


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("schedule", [Linear(), Trig()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
def test_the_velocity_is_the_derivative_of_the_state(noise, schedule, shape, generator):
    path = StochasticInterpolant(schedule, noise)
    pair = pair_of(5, generator, shape)
    t = torch.linspace(0.05, 0.95, 5, dtype=torch.float64)

    def state(times):
        return path.sample(pair, times, generator=torch.Generator().manual_seed(1))

    h = 1e-6
    slope = (state(t + h).x_t - state(t - h).x_t) / (2 * h)
    assert torch.allclose(state(t).v_t, slope, atol=1e-7, rtol=1e-7)
    assert torch.equal(state(t).t, t)


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: type(n).__name__)
def test_the_score_of_a_state_given_its_pair_is_its_noise(noise, generator):
    path = StochasticInterpolant(Linear(), noise)
    pair = pair_of(4, generator)
    t = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
    point = path.sample(pair, t, generator=generator)
    gamma, _ = noise(t)
    x = point.x_t.clone().requires_grad_()
    mean = t[:, None] * pair.x_1 + (1 - t)[:, None] * pair.x_0
    law = torch.distributions.Normal(mean, gamma[:, None])
    (score,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    assert point.noise is not None
    assert torch.allclose(score, -point.noise / gamma[:, None], atol=1e-12)


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: type(n).__name__)
def test_there_is_no_noise_at_the_ends_and_the_margin_keeps_away(noise):
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert float(noise(ends)[0].abs().max()) < 1e-15
    path = StochasticInterpolant(Linear(), noise, margin=0.01)
    assert path.domain == (0.01, 0.99)
    assert path.initial_scale == pytest.approx(0.99)
    assert path.sample(Pair(torch.zeros(2, 1), torch.ones(2, 1)), torch.tensor([0.01, 0.99]))


def test_a_brownian_bridge_has_its_covariance(generator):
    """Given both ends, the variance at t is sigma^2 t (1 - t)."""
    path = StochasticInterpolant(Linear(), BrownianBridge(0.5))
    n = 200_000
    pair = Pair(torch.zeros(n, 1), torch.ones(n, 1))
    x_t = path.sample(pair, torch.full((n,), 0.3), generator=generator).x_t
    assert float(x_t.mean()) == pytest.approx(0.3, abs=0.003)
    assert float(x_t.var()) == pytest.approx(0.25 * 0.21, rel=0.02)


def test_the_mean_square_of_a_bridges_velocity_grows_with_smaller_margins():
    """``E |d_gamma z|^2 = sigma^2 (1 - 2 t)^2 / (4 t (1 - t))``: its integral has no limit."""

    def integral(margin):
        t = torch.linspace(margin, 1 - margin, 400_001, dtype=torch.float64)
        return float(torch.trapezoid(BrownianBridge(2.0)(t)[1].square(), t))

    parts = [integral(10.0**-k) for k in (2, 3, 4)]
    # 4 (1 / (4 t (1 - t)) - 1) has the antiderivative log(t / (1 - t)) - 4 t.
    for k, found in zip((2, 3, 4), parts, strict=True):
        m = 10.0**-k
        exact = 2 * math.log((1 - m) / m) - 4 * (1 - 2 * m)
        assert found == pytest.approx(exact, rel=1e-3)
    assert parts[2] - parts[1] == pytest.approx(2 * math.log(10), rel=0.01)


def test_bad_numbers_and_other_predictions_are_refused():
    for kind in (BrownianBridge, Parabola, SquaredSine):
        for scale in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(InputError, match="scale of latent noise"):
                kind(scale)
    for margin in (0.0, 0.5):
        with pytest.raises(InputError, match="margin must be"):
            StochasticInterpolant(Linear(), Parabola(), margin=margin)
    path = StochasticInterpolant(Linear(), Parabola())
    with pytest.raises(InputError, match="use prediction=velocity"):
        velocity_domain(Data(), path, 1e-3)
    with pytest.raises(InputError, match="float32 or float64"):
        path.sample(Pair(torch.zeros(2, 1), torch.ones(2, 1)), torch.tensor([0.2, 0.8]).half())
