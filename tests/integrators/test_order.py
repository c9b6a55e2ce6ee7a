"""Observed orders on flows with exact answers, forwards and backwards."""

import math

import pytest
import torch

from flowgen.integrators import (
    RK4,
    AdamsBashforth,
    Euler,
    Heun,
    Kutta3,
    Midpoint,
    Ralston,
    RK4ThreeEighths,
    Sway,
    Uniform,
    integrate,
)
from oracles import GaussianOracle

RUNGE_KUTTA = [Euler(), Midpoint(), Heun(), Ralston(), Kutta3(), RK4(), RK4ThreeEighths()]
STEPPERS = [*RUNGE_KUTTA, AdamsBashforth(2), AdamsBashforth(3), AdamsBashforth(4)]


def observed_order(stepper, field, x, exact, ends, place=Uniform(), start=16):  # noqa: B008
    """Return log2 of the error ratio of 64 and 128 steps."""
    errors = []
    for n in (4 * start, 8 * start):
        grid = ends[0] + (ends[1] - ends[0]) * place(n)
        errors.append(float((integrate(stepper, field, x, grid) - exact).norm()))
    return math.log2(errors[0] / errors[1])


def separable(x, t, cond=None):
    """v = 2 x^2 cos t: neither linear nor autonomous, x(t) = 1 / (1/x(s) + 2 sin s - 2 sin t)."""
    return 2 * x.square() * t.cos().reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize(
    ("stepper", "shape"),
    [*[(stepper, (4, 2)) for stepper in STEPPERS], (Heun(), (2, 1, 2, 2)), (Heun(), (1, 3))],
    ids=str,
)
@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.3)], ids=str)
def test_order_on_a_nonlinear_flow(stepper, shape, ends):
    x = torch.linspace(-0.4, 0.3, math.prod(shape), dtype=torch.float64).reshape(shape)
    exact = 1 / (1 / x + 2 * math.sin(ends[0]) - 2 * math.sin(ends[1]))
    assert abs(observed_order(stepper, separable, x, exact, ends) - stepper.order) < 0.15


@pytest.mark.parametrize("stepper", [AdamsBashforth(order) for order in (2, 3, 4)], ids=repr)
def test_order_of_multistep_methods_on_unequal_steps(stepper):
    x = torch.linspace(-0.4, 0.3, 6, dtype=torch.float64).reshape(3, 2)
    exact = 1 / (1 / x - 2 * math.sin(1.0))
    place = Sway(-0.9)  # the last steps are ten times the first
    order = observed_order(stepper, separable, x, exact, (0.0, 1.0), place, start=128)
    assert abs(order - stepper.order) < 0.15


@pytest.mark.parametrize("stepper", STEPPERS, ids=repr)
@pytest.mark.parametrize("ends", [(0.0, 0.8), (0.9, 0.1)], ids=str)
def test_order_on_the_gaussian_flow(stepper, ends):
    # at least: x_t is linear in the root of a quadratic of t, where the midpoint method gains one
    cov_1 = torch.tensor([[2.0, 0.5], [0.5, 0.7]]).double()
    cov_0 = torch.tensor([[1.0, -0.3], [-0.3, 0.6]]).double()
    oracle = GaussianOracle(torch.tensor([1.0, -2.0]), cov_1, torch.tensor([0.5, 0.3]), cov_0)
    x = oracle.sample(8, generator=torch.Generator().manual_seed(1)).x_0
    start, end = (torch.full((8,), time, dtype=torch.float64) for time in ends)
    order = observed_order(stepper, oracle, x, oracle.flow(x, start, end), ends)
    assert order > stepper.order - 0.15


@pytest.mark.parametrize("stepper", RUNGE_KUTTA, ids=repr)
def test_tableau_fulfils_the_conditions_of_its_order(stepper):
    table = stepper.tableau
    assert len(table.weights) == stepper.evaluations
    assert [len(row) for row in table.matrix] == list(range(stepper.evaluations))
    assert sum(table.weights) == pytest.approx(1)
    for c, row in zip(table.nodes, table.matrix, strict=True):
        assert sum(row) == pytest.approx(c)
    for power in range(stepper.order):  # quadrature of t^power over [0, 1]
        moment = sum(w * c**power for w, c in zip(table.weights, table.nodes, strict=True))
        assert moment == pytest.approx(1 / (power + 1))


@pytest.mark.parametrize("stepper", RUNGE_KUTTA, ids=repr)
def test_one_step_on_a_field_of_time_is_its_quadrature(stepper):
    # v = t^(order-1) integrates exactly, from anywhere to anywhere
    x = torch.tensor([[1.0, -2.0]]).double()

    def power(x, t, cond=None):
        return (t ** (stepper.order - 1))[:, None].expand_as(x)

    for s, t in ((0.2, 0.9), (0.7, 0.1)):
        moved = stepper.step(power, x, s, t)
        exact = x + (t**stepper.order - s**stepper.order) / stepper.order
        torch.testing.assert_close(moved, exact, rtol=0, atol=1e-14)
