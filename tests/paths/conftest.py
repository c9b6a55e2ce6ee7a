"""Every schedule of the catalogue, twice where an argument changes its behaviour."""

import pytest
import torch

from flowgen.paths import (
    EDM,
    VP,
    Cosine,
    DiscreteDiffusion,
    Linear,
    LinearVP,
    Polynomial,
    Trig,
)
from oracles import GaussianOracle, MixtureOracle

SCHEDULES = {
    "linear": Linear(),
    "linear_sigma_min": Linear(0.07),
    "trig": Trig(),
    "linear_vp": LinearVP(),
    "vp": VP(),
    "vp_constant_beta": VP(6.0, 6.0),
    "cosine": Cosine(),
    "polynomial": Polynomial(2.5),
    "polynomial_slow": Polynomial(0.6),
    "edm": EDM(),
    "discrete_diffusion": DiscreteDiffusion(),
    "discrete_cosine": DiscreteDiffusion(100, "squaredcos_cap_v2"),
    "edm_other": EDM(0.01, 20.0, 3.0),
}


@pytest.fixture(params=list(SCHEDULES.values()), ids=list(SCHEDULES))
def schedule(request):
    return request.param


def _mixture(schedule, shape=None):
    weights = torch.tensor([0.2, 0.5, 0.3])
    means = torch.tensor([[1.0, 2.0, 0.5, 0.0], [-1.5, 0.3, -0.5, 1.0], [0.2, -2.0, 0.7, 0.4]])
    covs = torch.tensor([0.3, 0.8, 0.5])
    return MixtureOracle(weights, means, covs, schedule=schedule, shape=shape)


@pytest.fixture
def mixture_on():
    """Mixtures of three components in four dimensions, for any schedule."""
    return _mixture


@pytest.fixture
def gaussian_on():
    """Gaussian data of non-zero mean and full covariance; source N(0, I)."""
    root = torch.tensor([[0.9, 0.0, 0.2], [-0.4, 0.6, 0.0], [0.1, 0.3, 1.3]]).double()
    mean = torch.tensor([1.0, -0.5, 2.0]).double()
    return lambda schedule: GaussianOracle(mean, root @ root.T, schedule=schedule)


@pytest.fixture
def times():
    """Times well inside every domain, and a function for the closed domain of a schedule."""
    return torch.linspace(0.01, 0.99, 50, dtype=torch.float64)


@pytest.fixture
def states(generator):
    return 1.5 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
