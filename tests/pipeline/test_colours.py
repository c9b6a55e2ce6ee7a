"""Colours for pictures like emoji, by the exact flow of a few of them."""

import pytest
import torch
from torch import nn

from flowgen.data import Gaussian, Identity
from flowgen.integrators import Heun, Sampler, Uniform
from flowgen.models import PredictionField
from flowgen.paths import AffinePath, Linear, Velocity
from flowgen.pipeline import Pipeline
from flowgen.pipeline.editing import Colours, Noising, edited

SIDE, SPREAD = 12, 0.1
COLOURS = {
    "red": (0.8, -0.9, -0.8),
    "blue": (-0.9, -0.8, 0.8),
    "yellow": (0.9, 0.8, -0.8),
    "green": (-0.7, 0.8, -0.1),
}


def disc(colour, radius, centre=(5.5, 5.5)):
    """A coloured disc on white, (3, 12, 12) in [-1, 1]."""
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    value = torch.tensor(COLOURS[colour], dtype=torch.float64)[:, None, None]
    return torch.where(inside, value, torch.ones((), dtype=torch.float64))


# Four colours of one shape, red and blue of one grey; then three that are told by their shapes.
PICTURES = torch.stack(
    [
        *(disc("red", 4), disc("blue", 4), disc("yellow", 4), disc("green", 4)),
        *(disc("green", 2.5), disc("red", 3, (3.5, 7.5)), disc("yellow", 3, (8.0, 4.0))),
    ]
)


class Exact(nn.Module):
    """The velocity of data that are one of the pictures, each with Gaussian noise of SPREAD."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x, t, cond=None):
        t = t.reshape(-1, 1)
        variance = (t * SPREAD) ** 2 + (1 - t) ** 2
        means, flat = PICTURES.flatten(1), x.flatten(1)
        apart = (flat[:, None] - t[:, None] * means).square().sum(dim=-1)
        share = torch.softmax(-apart / (2 * variance), dim=1)
        mean = share @ means
        slope = (t * SPREAD**2 - (1 - t)) / variance
        return (mean + slope * (flat - t * mean)).reshape(x.shape)


@pytest.fixture
def pipeline():
    path = AffinePath(Linear())
    field = PredictionField(Exact(), path, Velocity()).double()
    sampler = Sampler(Heun(), Uniform(), 20)
    return Pipeline(field, Gaussian(PICTURES.shape[1:]), sampler, Identity())


def nearest(found):
    return torch.cdist(found.flatten(1), PICTURES.flatten(1)).argmin(dim=1)


def test_grey_pictures_get_the_colours_that_belong_to_them(pipeline):
    places = torch.arange(4, len(PICTURES)).repeat_interleave(4)
    grey = PICTURES[places].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    found = edited(pipeline, grey, Colours(), seed=1)
    assert nearest(found).tolist() == places.tolist()
    torch.testing.assert_close(found.mean(dim=1), grey[:, 0], atol=1e-12, rtol=0)
    # As near as the noise of the data; the grey pictures themselves are far.
    assert (found - PICTURES[places]).square().mean().sqrt() < 1.5 * SPREAD
    assert (grey - PICTURES[places]).square().mean().sqrt() > 3 * SPREAD
    # Noise alone does not know which grey is to stay.
    noised = edited(pipeline, grey, Noising(0.9), seed=1)
    assert (noised.mean(dim=1) - grey[:, 0]).abs().max() > 0.5


def test_what_grey_leaves_open_is_drawn(pipeline):
    grey = PICTURES[:1].mean(dim=1, keepdim=True).expand(24, 3, -1, -1)
    torch.testing.assert_close(grey[0, 0], PICTURES[1].mean(dim=0))
    drawn = nearest(edited(pipeline, grey, Colours(), seed=2))
    assert int(drawn.max()) < 4, "another shape"
    assert {0, 1} <= set(drawn.tolist())
    # The guidance is an approximation: of four colours of one shape it prefers the two whose grey
    # it is, but does not always hit them.
    assert float((drawn < 2).float().mean()) > 0.6
