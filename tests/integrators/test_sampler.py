from dataclasses import FrozenInstanceError

import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import (
    RK4,
    Adaptive,
    Euler,
    Explicit,
    Heun,
    LogSNRUniform,
    Sampler,
    Uniform,
    integrate,
)
from oracles import GaussianOracle


class Bounded:
    """A field that is finite in its domain only."""

    def __init__(self, low, high):
        self.domain = (low, high)

    def __call__(self, x, t, cond=None):
        assert bool((t >= self.domain[0]).all())
        assert bool((t <= self.domain[1]).all())
        return torch.ones_like(x)


def gaussian():
    cov = torch.tensor([[2.0, 0.5], [0.5, 0.7]]).double()
    return GaussianOracle(torch.tensor([1.0, -2.0]), cov)


@pytest.mark.parametrize(
    "sampler",
    [Sampler(RK4(), Uniform(), 100), Sampler(Adaptive(rtol=1e-8, atol=1e-8), Uniform(), 1)],
    ids=["rk4", "dopri5"],
)
def test_sample_and_encode_follow_the_exact_flow(sampler):
    oracle = gaussian()
    pair = oracle.sample(8, generator=torch.Generator().manual_seed(0))
    zero, one = torch.zeros(8).double(), torch.ones(8).double()
    x_1 = sampler.sample(oracle, pair.x_0)
    torch.testing.assert_close(x_1, oracle.flow(pair.x_0, zero, one), rtol=0, atol=1e-6)
    x_0 = sampler.encode(oracle, pair.x_1)
    torch.testing.assert_close(x_0, oracle.flow(pair.x_1, one, zero), rtol=0, atol=1e-6)
    torch.testing.assert_close(sampler.encode(oracle, x_1), pair.x_0, rtol=0, atol=1e-6)


def test_grid_of_an_unbounded_field_is_the_grid_itself():
    nodes = Explicit([0.0, 0.1, 1 / 3, 1.0])
    assert Sampler(Euler(), nodes, 3).grid_for(gaussian()).tolist() == [0.0, 0.1, 1 / 3, 1.0]


@pytest.mark.parametrize("stepper", [Euler(), Heun(), RK4(), Adaptive()], ids=repr)
def test_nodes_are_clamped_to_the_domain(stepper):
    field = Bounded(0.125, 0.75)
    sampler = Sampler(stepper, Uniform(), 4)
    assert sampler.grid_for(field).tolist() == [0.125, 0.25, 0.5, 0.75]
    x = sampler.sample(field, torch.zeros(2, 1))
    torch.testing.assert_close(x, torch.full((2, 1), 0.625))
    torch.testing.assert_close(sampler.encode(field, x), torch.zeros(2, 1))


def test_nodes_outside_the_domain_fall_together():
    field = Bounded(0.25, 0.3)
    for grid in (Uniform(), LogSNRUniform()):
        nodes = Sampler(Euler(), grid, 50).grid_for(field)
        assert nodes[0] == 0.25
        assert nodes[-1] == 0.3
        assert bool((nodes.diff() > 0).all())
    assert Sampler(Euler(), Uniform(), 1).grid_for(field).tolist() == [0.25, 0.3]


@pytest.mark.parametrize("domain", [(0.5, 0.5), (0.6, 0.5), (-0.1, 1.0), (0.0, 1.1)])
def test_bad_domains_are_refused(domain):
    with pytest.raises(InputError, match="domain"):
        Sampler(Euler(), Uniform(), 2).grid_for(Bounded(*domain))


def test_number_of_steps():
    sampler = Sampler(Heun(), Uniform(), 10)
    more = sampler.with_num_steps(20)
    assert (sampler.num_steps, more.num_steps) == (10, 20)
    assert (more.stepper, more.grid) == (sampler.stepper, sampler.grid)
    x = torch.ones(1, 2).double()
    torch.testing.assert_close(
        more.sample(gaussian(), x), integrate(Heun(), gaussian(), x, Uniform()(20))
    )
    with pytest.raises(InputError, match="^num_steps must be >= 1, got 0$"):
        Sampler(Heun(), Uniform(), 0)
    with pytest.raises(InputError, match="^num_steps must be >= 1, got -3$"):
        sampler.with_num_steps(-3)
    with pytest.raises(InputError, match="num_steps must be 2"):
        Sampler(Heun(), Explicit([0.0, 0.5, 1.0]), 3)
    with pytest.raises(FrozenInstanceError):
        sampler.num_steps = 3  # type: ignore[misc]


def test_condition_reaches_the_field():
    def field(x, t, cond=None):
        return cond["label"].to(x)[:, None].expand_as(x)

    cond = {"label": torch.tensor([2, -1])}
    sampler = Sampler(Euler(), Uniform(), 3)
    x = sampler.sample(field, torch.zeros(2, 1), cond)
    torch.testing.assert_close(x, torch.tensor([[2.0], [-1.0]]))
    torch.testing.assert_close(sampler.encode(field, x, cond), torch.zeros(2, 1))
