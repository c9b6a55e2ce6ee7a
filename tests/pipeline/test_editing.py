"""Edits against flows that are known in closed form."""

import math

import pytest
import torch
from scipy.integrate import quad
from torch import nn

from flowgen.core import InputError, expand
from flowgen.data import Gaussian, Identity
from flowgen.integrators import RK4, Euler, Sampler, Uniform
from flowgen.models import PredictionField
from flowgen.paths import AffinePath, Linear, Trig, Velocity
from flowgen.pipeline import Pipeline
from flowgen.pipeline.editing import (
    Colours,
    ControlledInversion,
    Inpainting,
    Inversion,
    Noising,
    Scene,
    edited,
    measured,
)

SHAPE = (3, 4, 4)


class GaussianFlow(nn.Module):
    """The velocity of data N(mean, std^2) on an affine path, in float64."""

    def __init__(self, mean, std, path):
        super().__init__()
        self.mean, self.std, self.path = mean, std, path
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x, t, cond=None):
        del cond
        c = self.path.coefficients(t)
        a, s, da, ds = (expand(each, x) for each in (c.alpha, c.sigma, c.d_alpha, c.d_sigma))
        variance = (a * self.std) ** 2 + s**2
        slope = (a * da * self.std**2 + s * ds) / variance
        return da * self.mean + slope * (x - a * self.mean)


def pipeline(mean=0.0, std=1.0, schedule=None, steps=100):
    path = AffinePath(schedule or Linear())
    field = PredictionField(GaussianFlow(mean, std, path), path, Velocity()).double()
    return Pipeline(field, Gaussian(SHAPE), Sampler(RK4(), Uniform(), steps), Identity())


def data(n=6, mean=0.0, std=1.0):
    generator = torch.Generator().manual_seed(3)
    return mean + std * torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("schedule", [Linear(), Trig()])
def test_inversion_gives_samples_back(schedule):
    x = data(mean=1.0, std=0.5)
    found = edited(pipeline(1.0, 0.5, schedule), x, Inversion(), chunk=4)
    torch.testing.assert_close(found, x, atol=1e-6, rtol=0)


def test_noising_is_the_flow_from_the_noised_state():
    own = pipeline(1.0, 0.5)
    x = data(mean=1.0, std=0.5)
    assert torch.equal(edited(own, x, Noising(0.0)), x)
    fresh = own.sample(6, seed=4).double()
    torch.testing.assert_close(edited(own, x, Noising(1.0), seed=4), fresh, atol=1e-5, rtol=0)
    noise = own.noise(4, range(6)).double()
    # The flow of a Gaussian keeps the standard score.
    for strength in (0.3, 0.8):
        t = 1 - strength
        state = t * x + strength * noise
        deviation = math.hypot(t * 0.5, strength)
        want = 1.0 + 0.5 * (state - t * 1.0) / deviation
        found = edited(own, x, Noising(strength), seed=4)
        torch.testing.assert_close(found, want, atol=1e-6, rtol=0)


def test_a_full_pull_to_the_samples_gives_them_back_and_one_to_noise_ends_there():
    x = data()
    own = pipeline(2.0, 0.7)
    full = ControlledInversion(eta=1.0, start=0.0, stop=1.0)
    euler = own.with_sampler(Sampler(Euler(), Uniform(), 50))
    torch.testing.assert_close(edited(euler, x, full), x, atol=1e-9, rtol=0)
    # gamma = 1 leads back to the very noise, from where the flow alone goes on.
    free = ControlledInversion(gamma=1.0, eta=0.0)
    want = own.sample(6, seed=9).double()
    torch.testing.assert_close(edited(own, x, free, seed=9), want, atol=2e-2, rtol=0)
    plain = ControlledInversion(gamma=0.0, eta=0.0)
    torch.testing.assert_close(edited(own, x, plain), x, atol=1e-6, rtol=0)


class Still(nn.Module):
    """A field that moves nothing."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x, t, cond=None):
        del t, cond
        return torch.zeros_like(x)


@pytest.mark.parametrize("at_end", [False, True])
def test_the_transport_pull_follows_its_schedule(at_end):
    field = PredictionField(Still(), AffinePath(Linear()), Velocity()).double()
    own = Pipeline(field, Gaussian(SHAPE), Sampler(RK4(), Uniform(), 400), Identity())
    x = data()
    # On a still field the way back with gamma = 1 ends at the noise.
    edit = ControlledInversion(
        gamma=1.0, eta=0.0, transport=0.6, phase=0.5, clip=1e9, at_end=at_end
    )
    noise = own.noise(2, range(6)).double()

    def strength(t):
        since = 1 - t if at_end else t
        falls = 0.5 * (1 + math.cos(min(since / 0.5, 1) * math.pi))
        return 0.6 * falls / max(1 - t, 0.01)

    total = quad(strength, 0, 1, limit=200, points=[0.5, 0.99])[0]
    want = x - (x - noise) * math.exp(-total)
    found = edited(own, x, edit, seed=2)
    torch.testing.assert_close(found, want, atol=2e-2, rtol=0)
    clipped = ControlledInversion(gamma=1.0, eta=0.0, transport=0.6, phase=0.5, clip=1e-6)
    torch.testing.assert_close(edited(own, x, clipped, seed=2), noise, atol=2e-2, rtol=0)


def test_what_is_measured_stays_and_the_rest_is_the_flows():
    own = pipeline()
    x = data()
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    found = edited(own, x, Inpainting(start=0.1), mask=mask, seed=5)
    torch.testing.assert_close(found[..., :2], x[..., :2], atol=1e-9, rtol=0)
    # Where the data are standard normal what is unknown does not depend on what is known.
    start = 0.9 * own.noise(5, range(6)).double()[..., 2:]
    want = start / math.hypot(0.1, 0.9)
    torch.testing.assert_close(found[..., 2:], want, atol=1e-6, rtol=0)
    grey = edited(own, x, Colours(), seed=5)
    torch.testing.assert_close(grey.mean(dim=1), x.mean(dim=1), atol=1e-9, rtol=0)
    assert (grey - x).abs().max() > 0.5


def test_the_correction_alone_leads_to_what_is_measured():
    own, x = pipeline(0.5, 0.8), data()
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    noise = own.noise(0, range(6)).double()
    field = own.velocity()
    scene = Scene(field, field, own.sampler, None, None, noise, mask)
    edit = Inpainting()
    times = scene.times(edit.start)
    start = times[0] * x * mask + (1 - times[0]) * noise
    with torch.no_grad():
        corrected = measured._Corrected(field, scene, edit, x * mask)
        found = scene.carried(corrected, start, times, None)
    torch.testing.assert_close(found[..., :2], x[..., :2], atol=0.02, rtol=0)
    # Without it the flow does not know of them.
    assert (scene.carried(field, start, times, None) - x)[..., :2].abs().mean() > 0.5


def test_slips_are_told():
    own, x = pipeline(), data()
    for make, part in (
        (lambda: Noising(1.5), r"in \[0, 1\]"),
        (lambda: ControlledInversion(gamma=2.0), r"edit.gamma must be in \[0, 1\]"),
        (lambda: ControlledInversion(start=0.5, stop=0.2), "must rise"),
        (lambda: ControlledInversion(phase=0.0), "edit.phase in"),
        (lambda: Inpainting(start=0.0), "edit.start must be in"),
        (lambda: Colours(weight=0.0), "edit.weight must be > 0"),
        (lambda: edited(own, x, Inpainting()), "needs a mask"),
        (lambda: edited(own, x, Inpainting(), mask=torch.ones(1, 1, 8, 8)), "a mask is of"),
        (lambda: edited(own, x, Noising(), asked={"label": 3}), "unconditional"),
    ):
        with pytest.raises(InputError, match=part):
            make()
