"""Integration of ``dx/dt = v(x, t)`` over a grid of times, forwards or backwards.

The grid decides direction and steps: increasing nodes go from source to data, decreasing ones
from data to source. Nodes are used exactly as given, in float64; the field sees them in the dtype
that the state is accumulated in (float32 at least).
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.stepper import Stepper, accumulating


def integrate(
    stepper: Stepper,
    field: VelocityField,
    x: Float[Tensor, "b *d"],
    grid: Float[Tensor, " n"],
    cond: Condition | None = None,
) -> Float[Tensor, "b *d"]:
    """Return the state at the last node of ``grid``, given ``x`` at the first.

    Args:
        stepper: One step of a method.
        field: The velocity.
        x: States ``(b, *d)`` at ``grid[0]``.
        grid: At least 2 times in ``[0, 1]``, strictly increasing or strictly decreasing.
        cond: Conditions of the rows.

    Returns:
        States ``(b, *d)`` at ``grid[-1]``, float32 at least.

    Raises:
        InputError: If the grid is not as described or ``x`` has no batch axis.
    """
    for state in _states(stepper, field, x, grid, cond):
        x = state
    return x


def trajectory(
    stepper: Stepper,
    field: VelocityField,
    x: Float[Tensor, "b *d"],
    grid: Float[Tensor, " n"],
    cond: Condition | None = None,
) -> Float[Tensor, "n b *d"]:
    """Return the states at all nodes of ``grid``, the first being ``x`` itself.

    Arguments, precision and errors are those of :func:`integrate`, whose result is the last state.

    Returns:
        States ``(n, b, *d)`` for a grid of ``n`` nodes.
    """
    return torch.stack(list(_states(stepper, field, x, grid, cond)))


def check_grid(grid: Float[Tensor, " n"]) -> list[float]:
    """Return the nodes of a valid grid as numbers.

    Raises:
        InputError: If there are less than 2 nodes, or they are not finite, leave ``[0, 1]`` or are
            not strictly monotone.
    """
    nodes: list[float] = grid.tolist()
    if len(nodes) < 2:
        raise InputError(f"grid needs at least 2 nodes, got {len(nodes)}")
    for node in nodes:
        if not math.isfinite(node) or not 0 <= node <= 1:
            raise InputError(f"grid nodes must lie in [0, 1], got {node}")
    sign = 1 if nodes[-1] > nodes[0] else -1
    for i, (s, t) in enumerate(zip(nodes[:-1], nodes[1:], strict=True)):
        if sign * (t - s) <= 0:
            raise InputError(f"grid must be strictly monotone, got {s}, {t} at nodes {i}, {i + 1}")
    return nodes


def _states(
    stepper: Stepper, field: VelocityField, x: Tensor, grid: Tensor, cond: Condition | None
) -> Iterator[Tensor]:
    """Yield the state at each node."""
    if x.ndim < 2:
        raise InputError(f"x needs a batch and a sample axis, got {tuple(x.shape)}")
    nodes = check_grid(grid)
    x = accumulating(x)
    yield x
    for s, t in zip(nodes[:-1], nodes[1:], strict=True):
        x = stepper.step(field, x, s, t, cond)
        yield x
