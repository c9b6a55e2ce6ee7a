"""Where a field changes its form: nodes there, no memory across, the field seen from inside."""

import copy

import pytest
import torch

from flowgen.core import InputError, generator_for
from flowgen.integrators import (
    AdamsBashforth,
    Counted,
    Euler,
    Explicit,
    Heun,
    Leg,
    Midpoint,
    Noise,
    Sampler,
    Uniform,
    integrate,
)


class Switched:
    """v = 1 where low <= t < high, else 3 t^2: guidance in an interval, seen as a field."""

    def __init__(self, low=0.25, high=0.6):
        self.breaks = (low, high)
        self.times = []

    def __call__(self, x, t, cond=None):
        self.times.append(float(t[0]))
        inside = (t >= self.breaks[0]) & (t < self.breaks[1])
        return torch.where(inside, 1.0, 3 * t**2)[:, None].expand_as(x).to(x.dtype)

    def exact(self):
        low, high = self.breaks
        return low**3 + (high - low) + 1 - high**3


@pytest.mark.parametrize("stepper", [Heun(), AdamsBashforth(3), AdamsBashforth(4)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_breaks_cost_no_accuracy(stepper, dtype):
    field = Switched()
    sampler = Sampler(stepper, Uniform(), 30)
    x = sampler.sample(field, torch.zeros(2, 1, dtype=dtype))
    # Heun, also the start of order 3, errs by h^3 / 2 in a step; a wrong value at an edge by 0.017
    atol = {2: 6e-4, 3: 1e-4, 4: 1e-6}[stepper.order]
    torch.testing.assert_close(x, torch.full_like(x, field.exact()), rtol=0, atol=atol)
    back = sampler.encode(field, x)
    torch.testing.assert_close(back, torch.zeros_like(x), rtol=0, atol=2 * atol)


def test_breaks_are_nodes_once():
    field = Switched(0.25, 0.6)
    nodes = Sampler(Euler(), Uniform(), 4).grid_for(field).tolist()
    assert nodes == [0.0, 0.25, 0.5, 0.6, 0.75, 1.0]
    near = Sampler(Euler(), Explicit([0.0, 0.25 + 1e-9, 1.0]), 2)
    assert near.grid_for(field).tolist() == [0.0, 0.25 + 1e-9, 1.0]  # given nodes stay
    field.breaks = (0.25 + 1e-9, 0.999999999)
    nodes = Sampler(Euler(), Uniform(), 4).grid_for(field).tolist()
    assert nodes == [0.0, 0.25 + 1e-9, 0.5, 0.75, 0.999999999, 1.0]
    field.breaks, field.domain = (0.1, 0.5), (0.2, 1.0)
    assert Sampler(Euler(), Uniform(), 2).grid_for(field).tolist() == [0.2, 0.5, 1.0]


class Spy:
    """A stepper that keeps the legs it is begun for."""

    order = 1

    def __init__(self):
        self.legs = []

    def begin(self, field, x, leg):
        self.legs.append(leg)
        return self

    def step(self, field, x, s, t, cond=None):
        return x


@pytest.mark.parametrize("rising", [True, False])
def test_legs_end_at_or_past_breaks(rising):
    grid = Explicit([0.0, 0.2, 0.25, 0.5, 0.7, 1.0])(5)
    spy = Spy()
    integrate(spy, Switched(0.25, 0.6), torch.zeros(1, 1), grid if rising else grid.flip(0))
    ends = [(leg.nodes[0], leg.nodes[-1]) for leg in spy.legs]
    if rising:
        assert ends == [(0.0, 0.25), (0.25, 0.7), (0.7, 1.0)]
    else:
        assert ends == [(1.0, 0.5), (0.5, 0.25), (0.25, 0.0)]
    assert [leg.final for leg in spy.legs] == [False, False, True]
    assert {leg.num_steps for leg in spy.legs} == {5}
    spy = Spy()
    integrate(spy, lambda x, t, cond=None: x, torch.zeros(1, 1), grid)
    assert spy.legs == [Leg(tuple(grid.tolist()), 5)]


def test_history_is_dropped_at_breaks_and_between_trajectories():
    field = Switched()
    counted = Counted(field)
    stepper = AdamsBashforth(3)
    Sampler(stepper, Uniform(), 20).sample(counted, torch.zeros(1, 1))
    assert counted.nfe == 20 + 3 * 2  # both breaks are nodes of the grid already
    assert vars(stepper) == vars(AdamsBashforth(3)) | {"_start": stepper._start}
    assert copy.deepcopy(stepper).order == 3
    alone = stepper.step(field, torch.zeros(1, 1), 0.0, 0.1)  # outside of a trajectory: its start
    assert torch.equal(alone, Heun().step(field, torch.zeros(1, 1), 0.0, 0.1))


def test_midpoint_needs_no_leg():
    field = Switched()
    whole = integrate(Midpoint(), field, torch.zeros(1, 1), Uniform()(20))
    state = torch.zeros(1, 1)
    for i in range(20):
        state = Midpoint().step(field, state, i / 20, (i + 1) / 20)
    torch.testing.assert_close(whole, state)


def test_noise_belongs_to_the_sample():
    x = torch.zeros(5, 2, 3)
    noise = Noise(3, range(5))
    whole = [noise.like(x) for _ in range(2)]
    part = Noise(3, [4, 1])
    for draws in whole:
        torch.testing.assert_close(part.like(x[:2]), draws[[4, 1]], rtol=0, atol=0)
    assert not torch.equal(whole[0], whole[1])
    other = Noise(4, range(5)).like(x)
    assert not torch.equal(other, whole[0])
    source = torch.randn(2, 3, generator=generator_for(3, 0))
    assert not torch.allclose(source, whole[0][0])  # apart from the source's own stream
    doubled = Noise(3, range(5)).like(x.double())
    assert doubled.dtype == torch.float64
    assert torch.equal(doubled.float(), whole[0])
    with pytest.raises(InputError, match="noise is for 5 samples, x has 4 rows"):
        noise.like(x[:4])
    with pytest.raises(InputError, match="seed must be >= 0"):
        Noise(-1, range(2))
