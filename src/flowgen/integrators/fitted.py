"""Grids and solvers fitted to a model: the few-step result is brought to that of many steps.

The root mean square difference at the end point, over some trajectories of the model, is minimised
over the sizes of the steps (and the weights of a :class:`NonStationary` solver) by the method of
Levenberg and Marquardt. Derivatives are finite differences of whole solves, so that the model is
only evaluated, whatever it is, and the weights of a method may depend on the steps in any way.

Sources: Shaul et al. 2023, arXiv 2310.19075 (bespoke solvers), and 2024, arXiv 2403.01329, for
what is fitted; Marquardt 1963 for how.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.grids import Explicit, Uniform
from flowgen.integrators.multistep import AdamsBashforth
from flowgen.integrators.non_stationary import NonStationary
from flowgen.integrators.runge_kutta import RK4
from flowgen.integrators.sampler import Sampler

_DIFFERENCE = 1e-3  # of a parameter; a smaller one drowns in the rounding of float32
_ENOUGH = 1e-3  # relative gain of an iteration below which the fit ends


@dataclass(frozen=True)
class Fit:
    """A fitted sampler and what it gained.

    Args:
        sampler: The sampler, its grid an :class:`Explicit` one.
        before: Root mean square distance from the teacher's end points at the start, in units of
            the state.
        after: The same in the end.
    """

    sampler: Sampler
    before: float
    after: float


@torch.no_grad()
def teacher_ends(
    field: VelocityField,
    x_0: Float[Tensor, "b *d"],
    cond: Condition | None = None,
    *,
    num_steps: int = 50,
) -> Float[Tensor, "b *d"]:
    """Return where ``x_0`` flows to by RK4 with many steps: what few steps are fitted to."""
    return Sampler(RK4(), Uniform(), num_steps).sample(field, x_0, cond)


@torch.no_grad()
def fit_grid(
    sampler: Sampler,
    field: VelocityField,
    x_0: Float[Tensor, "b *d"],
    x_1: Float[Tensor, "b *d"],
    cond: Condition | None = None,
    *,
    iterations: int = 20,
) -> Fit:
    """Return the sampler with the sizes of its steps fitted to ``field``.

    Args:
        sampler: Stepper, number of steps and the grid to start from.
        field: The velocity, in evaluation mode.
        x_0: Starting states ``(b, *d)``, some 100.
        x_1: Where they should end, e.g. :func:`teacher_ends`.
        cond: Conditions of the rows.
        iterations: Most iterations, >= 1; each costs about ``num_steps`` runs of the sampler.

    Raises:
        InputError: If the sampler is stochastic, has a single step, or ``iterations`` is below 1.
    """
    _check(sampler, iterations)
    sizes = sampler.grid(sampler.num_steps).diff().log()

    def made(parameters: Tensor) -> Sampler:
        grid = Explicit(_nodes(torch.cat([sizes[:1], parameters])))
        return Sampler(sampler.stepper, grid, sampler.num_steps)

    def residual(parameters: Tensor) -> Tensor:
        return made(parameters).sample(field, x_0, cond) - x_1

    best, before, after = _minimised(residual, sizes[1:], iterations)
    return Fit(made(best), before, after)


@torch.no_grad()
def fit_solver(
    sampler: Sampler,
    field: VelocityField,
    x_0: Float[Tensor, "b *d"],
    x_1: Float[Tensor, "b *d"],
    cond: Condition | None = None,
    *,
    iterations: int = 20,
) -> Fit:
    """Return a :class:`NonStationary` solver fitted to ``field``, as many steps as ``sampler`` has.

    It starts as Adams-Bashforth of order 2 on the grid of ``sampler``; fit that first. With ``n``
    steps it has ``n (n + 5) / 2 - 1`` numbers, so ``x_0`` should hold many times that.

    Args:
        sampler: Number of steps and the grid to start from; its stepper is not used.
        field: The velocity, in evaluation mode.
        x_0: Starting states ``(b, *d)``, some 100.
        x_1: Where they should end, e.g. :func:`teacher_ends`.
        cond: Conditions of the rows.
        iterations: Most iterations, >= 1; each costs about as many runs as there are numbers.

    Raises:
        InputError: If the sampler has a single step, or ``iterations`` is below 1.
    """
    count = sampler.num_steps
    start = Sampler(AdamsBashforth(2), sampler.grid, count)
    _check(start, iterations)
    nodes = start.grid_for(field)
    if len(nodes) - 1 != count:
        raise InputError(
            "a solver is fitted to one go from source to data: the field changes its form on the "
            "way (an interval of guidance) or is not defined at all nodes; fit a grid"
        )
    sizes = sampler.grid(count).diff().log()
    weights = _adams_weights(nodes.tolist())
    shape = [len(row) for row in weights]
    flat = torch.tensor([value for row in weights for value in row], dtype=torch.float64)
    first = torch.cat([sizes[1:], flat, torch.ones(count, dtype=torch.float64)])

    def made(parameters: Tensor) -> Sampler:
        logs, free, scales = parameters.split([count - 1, len(flat), count])
        rows = [row.tolist() for row in free.split(shape)]
        grid = Explicit(_nodes(torch.cat([sizes[:1], logs])))
        return Sampler(NonStationary(rows, scales.tolist()), grid, count)

    def residual(parameters: Tensor) -> Tensor:
        return made(parameters).sample(field, x_0, cond) - x_1

    best, before, after = _minimised(residual, first, iterations)
    return Fit(made(best), before, after)


def _check(sampler: Sampler, iterations: int) -> None:
    if sampler.stochastic:
        raise InputError(f"{sampler.stepper!r} draws noise: only an ODE sampler can be fitted")
    if sampler.num_steps < 2:
        raise InputError(f"num_steps must be >= 2 to fit anything, got {sampler.num_steps}")
    if iterations < 1:
        raise InputError(f"iterations must be >= 1, got {iterations}")


def _nodes(logs: Tensor) -> list[float]:
    """Return nodes from 0 to 1 whose steps are in the ratio of ``exp(logs)``."""
    inner = logs.softmax(dim=0).cumsum(dim=0)[:-1]
    return [0.0, *inner.tolist(), 1.0]


def _adams_weights(nodes: Sequence[float]) -> list[list[float]]:
    rows = [[nodes[1] - nodes[0]]]
    for i in range(1, len(nodes) - 1):
        h, before = nodes[i + 1] - nodes[i], nodes[i] - nodes[i - 1]
        half = h * h / (2 * before)
        rows.append([0.0] * (i - 1) + [-half, h + half])
    return rows


def _minimised(
    residual: Callable[[Tensor], Tensor], start: Tensor, iterations: int
) -> tuple[Tensor, float, float]:
    """Return parameters of a small root mean square residual, and its values before and after."""
    best, value = start, residual(start).flatten().double().cpu()
    before = loss = float(value.square().mean())
    damping = 1e-2
    for _ in range(iterations):
        columns = []
        for i in range(len(best)):
            moved = best.clone()
            moved[i] += _DIFFERENCE
            columns.append((residual(moved).flatten().double().cpu() - value) / _DIFFERENCE)
        jacobian = torch.stack(columns, dim=1)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ value
        scale = normal.diagonal().clamp(min=1e-6 * float(normal.diagonal().max()) + 1e-30)
        previous = loss
        while damping < 1e6:
            step = torch.linalg.solve(normal + damping * torch.diag(scale), gradient)
            tried = residual(best - step).flatten().double().cpu()
            found = float(tried.square().mean())
            if found < loss:
                best, value, loss, damping = best - step, tried, found, max(damping / 5, 1e-8)
                break
            damping *= 4
        if loss > (1 - _ENOUGH) * previous:
            break
    return best, before**0.5, loss**0.5
