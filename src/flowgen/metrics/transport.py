"""Wasserstein-2 distances between empirical sets of the same size.

For two sets of ``n`` points with equal weights the optimal plan is a permutation, so
``W2^2 = min_pi (1/n) sum_i |x_i - y_pi(i)|^2`` is an assignment problem and is solved exactly. In
one dimension the best permutation sorts both sides; averaging that over random directions gives
the sliced distance. Both ``W2`` and ``W2^2`` are reported, since papers call either "W2".

Between two finite sets of one distribution W2 is not 0: compare with the distance of two sets of
real data of the same size, the sampling floor.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from flowgen.core import InputError, flatten


@dataclass(frozen=True)
class Wasserstein:
    """A Wasserstein-2 distance and its square, in units of the data and their square."""

    w2: float
    w2_squared: float


def exact_w2(x: Float[Tensor, "n *d"], y: Float[Tensor, "m *e"]) -> Wasserstein:
    """Return the exact distance of two sets of points: ``min_pi (1/n) sum |x_i - y_pi(i)|^2``.

    Time grows as ``n^3`` and memory as ``n^2``: seconds at 2000 points, minutes at 10 000.

    Args:
        x: Points ``(n, *d)``.
        y: as many points of the same shape.

    Returns:
        The distance and its square.

    Raises:
        InputError: If sizes or shapes differ, or a value is not finite.

    Source: Villani 2009, "Optimal Transport", definition 6.1, with Birkhoff's theorem.
    """
    a, b = _aligned(x, y)
    rows, columns = linear_sum_assignment(torch.cdist(a, b).square().numpy())
    return _distance((a[rows] - b[columns]).square().sum(dim=1).mean())


def sliced_w2(
    x: Float[Tensor, "n *d"],
    y: Float[Tensor, "m *e"],
    num_projections: int = 256,
    *,
    generator: torch.Generator | None = None,
) -> Wasserstein:
    """Return the sliced distance: the mean of 1-D ``W2^2`` over uniform random directions.

    For one shift ``m`` between the sets ``W2^2`` is ``|m|^2`` and the sliced square ``|m|^2 / d``.

    Args:
        x: Points ``(n, *d)``.
        y: as many points of the same shape.
        num_projections: Directions, >= 1; the error falls as its root.
        generator: Draws the directions, on the CPU.

    Returns:
        The root of the mean square, and the mean square.

    Raises:
        InputError: If sizes or shapes differ, a value is not finite, or ``num_projections < 1``.

    Source: Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters", definition 3.
    """
    if num_projections < 1:
        raise InputError(f"num_projections must be >= 1, got {num_projections}")
    a, b = _aligned(x, y)
    directions = torch.randn(a.shape[1], num_projections, generator=generator, dtype=a.dtype)
    directions = directions / directions.norm(dim=0)
    sorted_a, sorted_b = ((side @ directions).sort(dim=0).values for side in (a, b))
    return _distance((sorted_a - sorted_b).square().mean())


def _aligned(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sets as float64 ``(n, d)`` on the CPU, moved together for accuracy."""
    if x.shape != y.shape:
        raise InputError(
            f"x and y must have as many points of one shape, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        )
    if x.ndim < 2 or len(x) == 0:
        raise InputError(f"x and y must hold points (n, *d) with n >= 1, got {tuple(x.shape)}")
    a, b = (flatten(side.detach().cpu().double()) for side in (x, y))
    if not bool(a.isfinite().all() and b.isfinite().all()):
        raise InputError("x and y must be finite")
    centre = a.mean(dim=0)
    return a - centre, b - centre


def _distance(squared: Tensor) -> Wasserstein:
    value = float(squared)
    return Wasserstein(w2=math.sqrt(value), w2_squared=value)
