"""The SDE of an interpolant keeps the marginals for any diffusion, after any coupling."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import (
    Counted,
    Euler,
    InterpolantSDE,
    Noise,
    Sampler,
    Uniform,
    integrate,
)
from flowgen.paths import BrownianBridge, Linear, Parabola, StochasticInterpolant
from gaussian_bridge import GaussianBridge

N = 20_000


class Fast(Noise):
    """Random numbers of many rows from one generator: the law alone counts here."""

    def __init__(self):
        super().__init__(0, [])
        self.generator = torch.Generator().manual_seed(7)

    def like(self, x):
        return torch.randn(x.shape, generator=self.generator, dtype=x.dtype)


def ends(field, diffusion, steps, noise=None):
    """Return states at the end of the domain, started from the exact law at its beginning."""
    generator = torch.Generator().manual_seed(5)
    low, high = field.domain
    mean, variance, _, _ = field.moments(torch.tensor([low], dtype=torch.float64))
    x = mean + variance.sqrt() * torch.randn(N, 1, generator=generator, dtype=torch.float64)
    grid = torch.linspace(low, high, steps + 1, dtype=torch.float64)
    return integrate(InterpolantSDE(diffusion), field, x, grid, noise=Fast())


@pytest.mark.parametrize("noise", [BrownianBridge(0.8), Parabola(2.0)], ids=["bridge", "parabola"])
@pytest.mark.parametrize("correlation", [-0.5, 0.9])
@pytest.mark.parametrize("diffusion", [0.0, 0.1, 0.5])
def test_every_diffusion_leaves_the_marginals_as_they_are(noise, correlation, diffusion):
    path = StochasticInterpolant(Linear(), noise, margin=0.05)
    field = GaussianBridge(path, correlation=correlation)
    x = ends(field, diffusion, 100)
    mean, variance, _, _ = (
        float(v) for v in field.moments(torch.tensor([0.95], dtype=torch.float64))
    )
    # Three standard errors of N samples, and the step: first order in 0.01.
    assert float(x.mean()) == pytest.approx(mean, abs=3 * math.sqrt(variance / N) + 0.01)
    assert float(x.var()) == pytest.approx(variance, rel=3 * math.sqrt(2 / N) + 0.03)


def test_another_score_gives_another_law():
    """The test above would see a score of the wrong size."""
    field = GaussianBridge(StochasticInterpolant(Linear(), Parabola(2.0), margin=0.05))

    class Wrong(GaussianBridge):
        def score(self, x, t, cond=None):
            return 2 * field.score(x, t)

    x = ends(Wrong(field.path), 0.5, 100)
    _, variance, _, _ = (float(v) for v in field.moments(torch.tensor([0.95]).double()))
    assert float(x.var()) < 0.9 * variance


def test_without_diffusion_it_is_eulers_method(generator):
    field = GaussianBridge(StochasticInterpolant(Linear(), Parabola(), margin=0.05))
    x = torch.randn(7, 1, generator=generator, dtype=torch.float64)
    grid = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    one = integrate(InterpolantSDE(0.0), field, x, grid, noise=Noise(0, range(7)))
    assert torch.equal(one, integrate(Euler(), field, x, grid))


def test_samples_depend_on_their_numbers_alone_and_both_networks_count(generator):
    field = GaussianBridge(StochasticInterpolant(Linear(), Parabola(), margin=0.05))
    x = torch.randn(6, 1, generator=generator)
    sampler = Sampler(InterpolantSDE(0.3), Uniform(), 5)
    assert sampler.stochastic
    counted = Counted(field)
    whole = sampler.sample(counted, x, noise=Noise(3, range(6)))
    assert counted.nfe == 10
    parts = [
        sampler.sample(field, x[r], noise=Noise(3, range(6)[r])) for r in (slice(2), slice(2, 6))
    ]
    assert torch.allclose(whole, torch.cat(parts))


def test_what_is_missing_is_told(generator):
    field = GaussianBridge(StochasticInterpolant(Linear(), Parabola(), margin=0.05))
    x, grid = torch.zeros(2, 1), torch.linspace(0.1, 0.9, 3)
    for diffusion in (-0.1, math.inf, math.nan):
        with pytest.raises(InputError, match="diffusion must be"):
            InterpolantSDE(diffusion)
    with pytest.raises(InputError, match="pass noise="):
        integrate(InterpolantSDE(), field, x, grid)
    with pytest.raises(InputError, match="source to data only"):
        integrate(InterpolantSDE(), field, x, grid.flip(0), noise=Noise(0, range(2)))
    with pytest.raises(InputError, match="learnt score"):
        integrate(InterpolantSDE(), lambda x, t, cond=None: x, x, grid, noise=Noise(0, range(2)))
    with pytest.raises(InputError, match="integrate it with noise="):
        InterpolantSDE().step(field, x, 0.1, 0.2)
    with pytest.raises(AttributeError):
        Counted(field).colour  # noqa: B018 - only the score is passed through
    assert not hasattr(Counted(lambda x, t, cond=None: x), "score")
