"""Divergence and the change of density: closed forms, and densities that are known."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import (
    RK4,
    Adaptive,
    ExactDivergence,
    Hutchinson,
    Noise,
    Sampler,
    Uniform,
    log_density_change,
)
from oracles import GaussianOracle, MixtureOracle

FINE = Sampler(RK4(), Uniform(), 60)


class Linear:
    """``v = A x + t``, whose log determinant is ``tr A`` at every point."""

    def __init__(self, matrix):
        self.matrix = matrix

    def __call__(self, x, t, cond=None):
        return (x.flatten(1) @ self.matrix.mT + t[:, None]).reshape(x.shape)


def matrix(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(n, n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)])
@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("rows", [1, 3])
def test_linear_field_gives_the_trace(shape, batch, rows, generator):
    a = matrix(6)
    x = torch.randn(rows, *shape, generator=generator, dtype=torch.float64)
    start, change = log_density_change(Linear(a), x, ExactDivergence(batch), sampler=FINE)
    assert start.shape == x.shape
    assert torch.allclose(change, torch.full((rows,), -float(a.trace())).double(), atol=1e-10)


@pytest.mark.parametrize("sampler", [None, FINE], ids=["dopri5", "rk4"])
def test_gaussian_data_have_their_density(sampler, generator):
    cov = torch.tensor([[2.0, 0.6, 0.1], [0.6, 0.5, -0.2], [0.1, -0.2, 1.5]]).double()
    oracle = GaussianOracle(torch.tensor([1.0, -2.0, 0.5]), cov, cov_0=0.7 * torch.eye(3))
    x = oracle.sample(9, generator=generator).x_1.double() + 0.3
    x_0, change = log_density_change(oracle, x, ExactDivergence(), sampler=sampler)
    zeros, ones = torch.zeros(9).double(), torch.ones(9).double()
    found = oracle.log_density(x_0, zeros) + change
    assert torch.allclose(
        found, oracle.log_density(x, ones), atol=1e-3 if sampler is None else 1e-5
    )


def test_density_of_a_mixture_integrates_to_one():
    means = torch.tensor([[1.0, 0.0], [-0.8, 0.5]]).double()
    oracle = MixtureOracle(torch.tensor([0.3, 0.7]), means, torch.tensor([0.4, 0.6]))
    side = torch.linspace(-3.5, 3.5, 45, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    x_0, change = log_density_change(oracle, grid, ExactDivergence(), sampler=FINE)
    log_p = -0.5 * x_0.square().sum(1) - math.log(2 * math.pi) + change
    area = float(side[1] - side[0]) ** 2
    assert float(log_p.exp().sum()) * area == pytest.approx(1, abs=3e-3)
    expected = oracle.log_density(grid, torch.ones(len(grid)).double())
    assert torch.allclose(log_p.exp(), expected.exp(), atol=1e-3)


@pytest.mark.parametrize("gaussian", [False, True])
def test_one_probe_for_each_trajectory_with_the_variance_of_theory(gaussian):
    a = matrix(6)
    s = (a + a.mT) / 2
    x = torch.zeros(80_000, 6, dtype=torch.float64)
    noise = Noise(0, range(len(x)))
    _, change = log_density_change(
        Linear(a), x, Hutchinson(gaussian), sampler=Sampler(RK4(), Uniform(), 2), noise=noise
    )
    # With a new probe at each of the 8 stages the variance would be far smaller.
    variance = 2 * float(s.square().sum() - (0 if gaussian else s.diagonal().square().sum()))
    standard_error = math.sqrt(variance / len(x))
    assert float(change.mean()) == pytest.approx(-float(a.trace()), abs=4 * standard_error)
    assert float(change.var()) == pytest.approx(variance, rel=0.03)


def test_probe_depends_on_the_number_of_the_sample_alone():
    a, x = matrix(4), torch.zeros(5, 4, dtype=torch.float64)

    def change(rows):
        noise = Noise(3, rows)
        found = log_density_change(
            Linear(a), x[list(rows)], Hutchinson(), sampler=FINE, noise=noise
        )
        return found[1]

    assert torch.allclose(change(range(5))[3:], change(range(3, 5)))


def test_a_field_without_a_state_changes_no_density():
    x = torch.ones(2, 3)
    x_0, change = log_density_change(
        lambda x, t, cond=None: torch.ones_like(x),
        x,
        Hutchinson(),
        sampler=FINE,
        noise=Noise(0, range(2)),
    )
    assert torch.allclose(x_0, torch.zeros(2, 3), atol=1e-6)
    assert torch.equal(change, torch.zeros(2))


def test_no_graph_is_left_and_inference_mode_is_no_obstacle():
    a, x = matrix(3), torch.zeros(2, 3, dtype=torch.float64)
    with torch.inference_mode():
        _, change = log_density_change(Linear(a), x, ExactDivergence(), sampler=FINE)
    assert not change.requires_grad
    assert float(change[0]) == pytest.approx(-float(a.trace()))


class Jumping(RK4):
    stochastic = True


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ExactDivergence(0), "batch"),
        (lambda x: log_density_change(Linear(matrix(3)), x, Hutchinson()), "noise"),
        (
            lambda x: log_density_change(
                Linear(matrix(3)), x, ExactDivergence(), sampler=Sampler(Jumping(), Uniform(), 2)
            ),
            "ODE sampler",
        ),
    ],
)
def test_misfits_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.zeros(2, 3, dtype=torch.float64))


def test_default_is_adaptive_and_says_what_it_is():
    assert "exact" in repr(ExactDivergence())
    assert "signs" in repr(Hutchinson())
    assert "Gaussian" in repr(Hutchinson(gaussian=True))
    assert Adaptive().rtol == 1e-5
