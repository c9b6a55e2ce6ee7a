"""Grids and solvers fitted to a field: nearer to the exact flow, on other trajectories too."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.integrators import (
    AdamsBashforth,
    Counted,
    EulerMaruyama,
    Explicit,
    Heun,
    Midpoint,
    NonStationary,
    Quadratic,
    Sampler,
    Uniform,
    UniPC,
    fit_grid,
    fit_solver,
    integrate,
    teacher_ends,
)
from flowgen.paths import AffinePath, Linear
from oracles import MixtureOracle


def mixture(shape=(2,)):
    oracle = MixtureOracle(
        torch.tensor([0.4, 0.6]),
        torch.tensor([[-1.2, 0.4], [0.9, -0.7]]),
        torch.tensor([0.1, 0.2]),
        shape=shape,
    )
    oracle.path = AffinePath(Linear())
    return oracle


def draws(n=40, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator, dtype=torch.float64).to(dtype)


def distance(sampler, field, x_0, x_1):
    return float((sampler.sample(field, x_0) - x_1).square().mean().sqrt())


@pytest.mark.parametrize(
    ("stepper", "dtype"),
    [
        (Midpoint(), torch.float64),
        (AdamsBashforth(2), torch.float32),
        (UniPC(2), torch.float32),
    ],
    ids=str,
)
def test_fitted_grid_is_better_on_other_trajectories(stepper, dtype):
    field, x_0 = mixture(), draws(150, dtype=dtype)
    start = Sampler(stepper, Uniform(), 4)
    fit = fit_grid(start, field, x_0, teacher_ends(field, x_0), iterations=6)
    assert fit.after < 0.92 * fit.before
    other = draws(150, seed=1, dtype=dtype)
    ends = teacher_ends(field, other)
    assert distance(fit.sampler, field, other, ends) < 0.95 * distance(start, field, other, ends)
    assert isinstance(fit.sampler.grid, Explicit)
    assert fit.sampler.stepper is stepper
    x_1 = teacher_ends(field, x_0)
    assert fit.before == pytest.approx(distance(start, field, x_0, x_1), rel=1e-4)
    assert fit.after == pytest.approx(distance(fit.sampler, field, x_0, x_1), rel=1e-4)


def test_fit_finds_a_known_optimum():
    # v = 3 t^2 by two midpoint steps: errors h^3/4 of each, least where the halves are equal
    def field(x, t, cond=None):
        return 3 * t.square()[:, None] + 0 * x

    x_0 = torch.zeros(3, 1, dtype=torch.float64)
    start = Sampler(Midpoint(), Explicit([0.0, 0.3, 1.0]), 2)
    fit = fit_grid(start, field, x_0, x_0 + 1, iterations=30)
    assert fit.sampler.grid(2)[1] == pytest.approx(0.5, abs=0.02)
    assert fit.after == pytest.approx(2 * 0.125 / 4, rel=1e-3)


def test_fitted_solver_beats_twice_the_evaluations():
    field, x_0 = mixture(), draws(80)
    x_1 = teacher_ends(field, x_0)
    grid = fit_grid(Sampler(AdamsBashforth(2), Uniform(), 4), field, x_0, x_1, iterations=6)
    fit = fit_solver(grid.sampler, field, x_0, x_1, iterations=10)
    assert fit.before == pytest.approx(grid.after, rel=1e-6)
    other = draws(80, seed=1)
    ends = teacher_ends(field, other)
    counted = Counted(field)
    fitted = distance(fit.sampler, counted, other, ends)
    assert counted.nfe == 4
    assert fitted < distance(Sampler(Heun(), Uniform(), 4), field, other, ends)


@pytest.mark.parametrize("grid", [Uniform(), Quadratic()], ids=repr)
def test_a_solver_starts_as_adams_bashforth(grid):
    field, x_0 = mixture(), draws(5)
    start = Sampler(AdamsBashforth(2), grid, 5)
    fit = fit_solver(start, field, x_0, start.sample(field, x_0), iterations=1)
    assert fit.before < 1e-12


def test_non_stationary_steps_are_their_formula():
    def field(x, t, cond=None):
        return (1 + t)[:, None] * x

    x = torch.tensor([[2.0]], dtype=torch.float64)
    solver = NonStationary([[0.5], [0.1, 0.3]], [1.0, 0.9])
    v_0 = 1.0 * 2.0
    x_1 = 1.0 * 2.0 + 0.5 * v_0
    v_1 = 1.25 * x_1
    nodes = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    found = integrate(solver, field, x, nodes)
    assert float(found) == pytest.approx(0.9 * x_1 + 0.1 * v_0 + 0.3 * v_1)
    assert torch.equal(integrate(solver, field, x, nodes), found)  # nothing is remembered


def test_what_was_fitted_to_one_thing_is_not_used_for_another():
    solver, x = NonStationary([[0.5], [0.1, 0.3]], [1.0, 0.9]), draws(2)
    for grid in (Uniform()(3), Uniform()(2).flip(0)):
        with pytest.raises(InputError, match="fitted to 2 steps from source to data in one go"):
            integrate(solver, mixture(), x, grid)
    switched = mixture()
    switched.breaks = (0.5,)
    with pytest.raises(InputError, match="in one go"):
        integrate(solver, switched, x, Uniform()(2))
    with pytest.raises(InputError, match="whole trajectories"):
        solver.step(mixture(), x, 0.0, 0.5)
    switched.breaks = (0.4,)
    with pytest.raises(InputError, match="fit a grid"):
        fit_solver(Sampler(AdamsBashforth(2), Uniform(), 2), switched, x, x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NonStationary([], []), "weights and scales must be of each step"),
        (lambda: NonStationary([[1.0]], [1.0, 1.0]), "weights and scales must be of each step"),
        (lambda: NonStationary([[1.0], [1.0]], [1.0, 1.0]), "row i of weights must hold i"),
        (lambda: NonStationary([[math.nan]], [1.0]), "must be finite"),
    ],
)
def test_bad_weights_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_what_cannot_be_fitted_is_refused():
    field, x = mixture(), draws(2)
    for sampler, iterations, message in (
        (Sampler(EulerMaruyama(), Uniform(), 3), 3, "draws noise: only an ODE sampler"),
        (Sampler(Heun(), Uniform(), 1), 3, "num_steps must be >= 2 to fit anything, got 1"),
        (Sampler(Heun(), Uniform(), 3), 0, "iterations must be >= 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            fit_grid(sampler, field, x, x, iterations=iterations)
    with pytest.raises(InputError, match="num_steps must be >= 2"):
        fit_solver(Sampler(Heun(), Uniform(), 1), field, x, x)
