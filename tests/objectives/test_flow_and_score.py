"""Velocity and latent noise learnt together, against Gaussian ends of any correlation."""

import pytest
import torch

from flowgen.core import InputError, Pair
from flowgen.models import MLP, InterpolantField
from flowgen.objectives import FlowAndScore, FlowMatching
from flowgen.paths import (
    AffinePath,
    BrownianBridge,
    Data,
    Linear,
    SquaredSine,
    StochasticInterpolant,
    Velocity,
)
from gaussian_bridge import GaussianBridge

BRIDGE = StochasticInterpolant(Linear(), BrownianBridge(0.7), margin=0.05)


class Moved:
    """An exact field with a part added to velocity and latent noise."""

    def __init__(self, exact, velocity=0.0, noise=0.0):
        self.exact, self.velocity, self.noise = exact, velocity, noise
        self.domain = exact.domain

    def __call__(self, x, t, cond=None):
        return self.exact(x, t) + self.velocity * torch.sin(3 * x + t[:, None])

    def latent_noise(self, x, t, cond=None):
        return self.exact.latent_noise(x, t) + self.noise * torch.cos(2 * x - t[:, None])


def loss_of(model, n=400_000, **settings):
    generator = torch.Generator().manual_seed(3)
    exact = model.exact
    pair = Pair(*exact.pairs(n, generator))
    return FlowAndScore(exact.path, **settings)(model, pair, generator=generator)


@pytest.mark.parametrize(
    "path", [BRIDGE, StochasticInterpolant(Linear(), SquaredSine(0.6), margin=0.05)]
)
def test_the_exact_velocity_and_noise_are_where_the_loss_is_least(path):
    """Moving either by a small part changes the loss by the mean square of that part alone."""
    exact = GaussianBridge(path)
    least = loss_of(Moved(exact)).terms
    for name, moved in (("velocity", Moved(exact, 0.3)), ("score", Moved(exact, 0.0, 0.3))):
        terms = loss_of(moved).terms
        other = "score" if name == "velocity" else "velocity"
        assert torch.equal(terms[other], least[other])
        difference = terms[name] - least[name]
        # The cross term has mean 0; 0.3^2 times the mean of a squared sine is left.
        error = 5 * float(difference.std()) / len(difference) ** 0.5
        part = 0.09 * 0.5
        assert float(difference.mean()) == pytest.approx(part, abs=error + 0.2 * part)
        assert float(difference.mean()) > 0


def test_score_and_noise_tell_the_velocity_apart(generator):
    """b = v - gamma d_gamma s, where v is the velocity of the pair's part alone."""
    exact = GaussianBridge(BRIDGE)
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    x = torch.randn(3, 1, generator=generator, dtype=torch.float64)
    gamma, d_gamma = (v[:, None] for v in BRIDGE.noise(t))
    assert torch.allclose(exact.score(x, t), -exact.latent_noise(x, t) / gamma)
    mean, variance, velocity, covariance = (v[:, None] for v in exact.moments(t))
    v = velocity + (covariance - gamma * d_gamma) / variance * (x - mean)
    assert torch.allclose(exact(x, t), v - gamma * d_gamma * exact.score(x, t))


def test_the_weights_of_both_parts(generator):
    exact = GaussianBridge(BRIDGE)
    one, other = (loss_of(Moved(exact), 100, score_weight=w) for w in (1.0, 2.5))
    assert torch.allclose(one.value, one.terms["velocity"] + one.terms["score"])
    assert torch.allclose(other.value, other.terms["velocity"] + 2.5 * other.terms["score"])


@pytest.mark.slow
def test_two_networks_learn_velocity_and_score():
    """Within 0.15 of the closed form, of a scale of 1, where there are states."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = [MLP((1,), width=64, depth=2) for _ in range(2)]
    field = InterpolantField(networks[0], BRIDGE, Velocity(), networks[1])
    exact = GaussianBridge(BRIDGE)
    objective = FlowAndScore(BRIDGE)
    optimizer = torch.optim.Adam(field.parameters(), lr=3e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    generator = torch.Generator().manual_seed(1)
    for _ in range(1500):
        x_0, x_1 = exact.pairs(512, generator)
        optimizer.zero_grad()
        objective(field, Pair(x_0.float(), x_1.float()), generator=generator).total().backward()
        optimizer.step()
        rate.step()
    t = torch.linspace(0.1, 0.9, 9).repeat_interleave(5)
    mean, variance, _, _ = exact.moments(t)
    x = (mean + variance.sqrt() * torch.linspace(-1.5, 1.5, 5).repeat(9))[:, None]
    with torch.no_grad():
        assert float((field(x, t) - exact(x, t)).abs().max()) < 0.15
        scaled = field.latent_noise(x, t) - exact.latent_noise(x, t)
        assert float(scaled.abs().max()) < 0.15
        gamma, _ = BRIDGE.noise(t)
        assert torch.allclose(field.score(x, t), -field.latent_noise(x, t) / gamma[:, None])


def test_what_does_not_fit_is_refused(generator):
    linear = AffinePath(Linear())
    with pytest.raises(InputError, match="needs a path with latent noise"):
        FlowAndScore(linear)
    with pytest.raises(InputError, match="score_weight must be > 0"):
        FlowAndScore(BRIDGE, score_weight=0.0)
    network = MLP((1,), width=8, depth=1)
    with pytest.raises(InputError, match="use prediction=velocity"):
        InterpolantField(network, BRIDGE, Data(), network)
    with pytest.raises(InputError, match="only velocities can be compared"):
        FlowMatching(BRIDGE, prediction=Data())
    pair = Pair(torch.zeros(4, 1), torch.ones(4, 1))
    with pytest.raises(InputError, match="a second network for the latent noise"):
        FlowAndScore(BRIDGE)(lambda x, t, cond=None: x, pair, generator=generator)
    narrow = Moved(GaussianBridge(BRIDGE))
    narrow.domain = (0.0, 0.01)
    with pytest.raises(InputError, match="share no time"):
        FlowAndScore(BRIDGE)(narrow, pair, generator=generator)
