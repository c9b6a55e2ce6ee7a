"""Rows between two samples: ends, arcs and conditions, against flows in closed form."""

import math

import pytest
import torch
from torch import nn

from flowgen.core import InputError
from flowgen.data import Gaussian, Identity
from flowgen.integrators import RK4, Sampler, Uniform
from flowgen.models import LabelConditioner, PredictionField
from flowgen.paths import AffinePath, Linear, Trig, Velocity
from flowgen.pipeline import Pipeline
from flowgen.pipeline.editing import Interpolation, edited, from_noise, inverted
from flowgen.pipeline.editing.interpolation import arc

SHAPE = (2, 3)
MEANS = (1.0, -2.0, 0.0)


class GaussianFlow(nn.Module):
    """The velocity of data N(mean of the label, 0.5^2), in float64; the last label is none."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.mean = nn.Parameter(torch.tensor(MEANS, dtype=torch.float64))

    def forward(self, x, t, cond=None):
        c = self.path.coefficients(t)
        a, s, da, ds = (each.reshape(-1, 1, 1) for each in (c.alpha, c.sigma, c.d_alpha, c.d_sigma))
        mean = self.mean[cond["label"]].reshape(-1, 1, 1)
        slope = (a * da * 0.25 + s * ds) / ((a * 0.5) ** 2 + s**2)
        return da * mean + slope * (x - a * mean)


def pipeline(schedule=None):
    path = AffinePath(schedule or Linear())
    field = PredictionField(GaussianFlow(path), path, Velocity()).double()
    sampler = Sampler(RK4(), Uniform(), 30)
    return Pipeline(field, Gaussian(SHAPE), sampler, Identity(), LabelConditioner(2))


def noise(n=6):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


LABELS = torch.tensor([0, 1, 0, 0, 1, 0])
OWN_MEANS = torch.tensor(MEANS, dtype=torch.float64)[LABELS].reshape(-1, 1, 1)


@pytest.mark.parametrize("schedule", [Linear(), Trig()])
def test_rows_are_the_arcs_of_the_noise_under_means_that_move_evenly(schedule):
    x_0 = noise()
    x = OWN_MEANS + 0.5 * x_0
    was = {"label": LABELS}
    found = edited(pipeline(schedule), x, Interpolation(5), was=was, chunk=3)
    rows = found.unflatten(0, (3, 5))
    for row in range(3):
        first, second = 2 * row, 2 * row + 1
        for place in range(5):
            s = place / 4
            angle = math.acos(
                float((x_0[first] * x_0[second]).sum() / x_0[first].norm() / x_0[second].norm())
            )
            left, right = math.sin((1 - s) * angle), math.sin(s * angle)
            between = (left * x_0[first] + right * x_0[second]) / math.sin(angle)
            # Velocities of one slope and two means: their blend is that of the blended mean.
            want = (1 - s) * OWN_MEANS[first] + s * OWN_MEANS[second] + 0.5 * between
            torch.testing.assert_close(rows[row, place], want, atol=1e-5, rtol=0)
    edit = Interpolation(5)
    torch.testing.assert_close(edit.ends(found), x, atol=1e-5, rtol=0)
    beside = edit.beside(x, found).unflatten(0, (3, 7))
    assert torch.equal(beside[:, 0], x[0::2])
    assert torch.equal(beside[:, -1], x[1::2])
    assert torch.equal(beside[:, 1:-1], rows)


def test_what_is_asked_for_holds_along_the_row():
    x_0 = noise()
    x = OWN_MEANS + 0.5 * x_0
    edit = Interpolation(3, spherical=False)
    found = edited(pipeline(), x, edit, was={"label": LABELS}, asked={"label": 1})
    middle = found.unflatten(0, (3, 3))[:, 1]
    want = -2.0 + 0.5 * (x_0[0::2] + x_0[1::2]) / 2
    torch.testing.assert_close(middle, want, atol=1e-5, rtol=0)


def test_arcs_keep_lengths_and_turn_evenly_and_parallel_ends_take_the_line():
    x, y = noise(2)[:1], noise(2)[1:]
    y = y / y.norm() * x.norm()
    steps = [arc(x, y, torch.tensor([s], dtype=torch.float64)) for s in (0.0, 0.25, 0.5, 1.0)]
    for step in steps:
        assert float(step.norm()) == pytest.approx(float(x.norm()), rel=1e-12)
    quarter, half = ((a * b).sum() for a, b in zip(steps, steps[1:3], strict=False))
    assert float(quarter) == pytest.approx(float(half), rel=1e-9)
    same = arc(x, 3 * x, torch.tensor([0.5], dtype=torch.float64))
    torch.testing.assert_close(same, 2 * x)
    still = arc(0 * x, x, torch.tensor([0.25], dtype=torch.float64))
    assert bool(still.isfinite().all())


@pytest.mark.parametrize("schedule", [Linear(), Trig()])
def test_noise_is_the_standard_score_and_leads_back(schedule):
    own, x_0 = pipeline(schedule), noise()
    x = OWN_MEANS + 0.5 * x_0
    was = {"label": LABELS}
    found = inverted(own.guided(3.0), x, was=was, chunk=4)
    torch.testing.assert_close(found, x_0, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        torch.cat(list(from_noise(own, found, was=was, chunk=4))), x, atol=1e-5, rtol=0
    )
    other = torch.cat(list(from_noise(own, found, was=was, asked={"label": [1, 0]})))
    means = torch.tensor([-2.0, 1.0] * 3, dtype=torch.float64).reshape(-1, 1, 1)
    torch.testing.assert_close(other, means + 0.5 * x_0, atol=1e-5, rtol=0)
    free = torch.cat(list(from_noise(own, x_0)))  # the null label is the last mean, 0
    torch.testing.assert_close(free, 0.5 * x_0, atol=1e-5, rtol=0)


def test_slips_are_told():
    with pytest.raises(InputError, match="edit.steps must be >= 2"):
        Interpolation(1)
    with pytest.raises(InputError, match="takes samples by 2, and there are 5"):
        edited(pipeline(), noise(5), Interpolation(3))
