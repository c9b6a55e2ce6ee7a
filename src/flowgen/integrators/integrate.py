"""Integration of ``dx/dt = v(x, t)`` over a grid of times, forwards or backwards.

The grid decides direction and steps: increasing nodes go from source to data, decreasing ones
from data to source. Nodes are used exactly as given, in float64; the field sees them in the dtype
that the state is accumulated in (float32 at least).

A field may say at which times it changes its form (``breaks``: the ends of an interval of
guidance). Multistep methods forget there, and a step that ends at such a time sees the field as it
is just before, since guidance acts at ``low <= t < high``.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.noise import Noise
from flowgen.integrators.stepper import Leg, Stepper, accumulating, begin, breaks_of


def integrate(
    stepper: Stepper,
    field: VelocityField,
    x: Float[Tensor, "b *d"],
    grid: Float[Tensor, " n"] | Sequence[float],
    cond: Condition | None = None,
    *,
    noise: Noise | None = None,
) -> Float[Tensor, "b *d"]:
    """Return the state at the last node of ``grid``, given ``x`` at the first.

    Args:
        stepper: One step of a method.
        field: The velocity.
        x: States ``(b, *d)`` at ``grid[0]``.
        grid: A tensor or numbers: at least 2 times in ``[0, 1]``, strictly increasing or strictly
            decreasing.
        cond: Conditions of the rows.
        noise: Random numbers of the rows, for a stochastic stepper.

    Returns:
        States ``(b, *d)`` at ``grid[-1]``, float32 at least.

    Raises:
        InputError: If the grid is not as described, ``x`` has no batch axis, or the stepper needs
            what is not there: random numbers, an affine path.
    """
    for state in _states(stepper, field, x, grid, cond, noise):
        x = state
    return x


def trajectory(
    stepper: Stepper,
    field: VelocityField,
    x: Float[Tensor, "b *d"],
    grid: Float[Tensor, " n"] | Sequence[float],
    cond: Condition | None = None,
    *,
    noise: Noise | None = None,
) -> Float[Tensor, "n b *d"]:
    """Return the states at all nodes of ``grid``, the first being ``x`` itself.

    Arguments, precision and errors are those of :func:`integrate`, whose result is the last state.

    Returns:
        States ``(n, b, *d)`` for a grid of ``n`` nodes.
    """
    return torch.stack(list(_states(stepper, field, x, grid, cond, noise)))


def check_grid(grid: Float[Tensor, " n"] | Sequence[float]) -> list[float]:
    """Return the nodes of a valid grid as numbers.

    Raises:
        InputError: If there are less than 2 nodes, or they are not finite, leave ``[0, 1]`` or are
            not strictly monotone.
    """
    nodes: list[float] = grid.tolist() if isinstance(grid, Tensor) else list(grid)
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
    stepper: Stepper,
    field: VelocityField,
    x: Tensor,
    grid: Tensor | Sequence[float],
    cond: Condition | None,
    noise: Noise | None,
) -> Iterator[Tensor]:
    """Yield the state at each node."""
    if x.ndim < 2:
        raise InputError(f"x needs a batch and a sample axis, got {tuple(x.shape)}")
    nodes = check_grid(grid)
    x = accumulating(x)
    yield x
    breaks = breaks_of(field)
    for part in _legs(nodes, breaks):
        leg = Leg(tuple(part), len(nodes) - 1, final=part[-1] == nodes[-1], noise=noise)
        fresh = begin(stepper, field, x, leg)
        seen = _before(field, max(part), x.dtype) if max(part) in breaks else field
        for s, t in zip(part[:-1], part[1:], strict=True):
            x = fresh.step(seen, x, s, t, cond)
            yield x


def _legs(nodes: Sequence[float], breaks: Sequence[float]) -> Iterator[Sequence[float]]:
    """Yield the stretches of the grid that end at the first nodes on or past each break."""
    start = 0
    for i in range(1, len(nodes) - 1):
        low, high = sorted((nodes[i - 1], nodes[i]))
        rising = nodes[i] > nodes[i - 1]
        if any((low < at <= high) if rising else (low <= at < high) for at in breaks):
            yield nodes[start : i + 1]
            start = i
    yield nodes[start:]


def _before(field: VelocityField, end: float, dtype: torch.dtype) -> Callable[..., Tensor]:
    """Return ``field`` with times limited to the last number before ``end``."""
    edge = torch.tensor(end, dtype=dtype)
    latest = float(torch.nextafter(edge, torch.zeros_like(edge)))

    def seen(x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return field(x, t.clamp(max=latest), cond)

    return seen
