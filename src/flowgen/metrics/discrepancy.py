"""Discrepancies of two sets of points that need no matching: RBF kernel and energy distance.

Both are ``2 E g(x, y) - E g(x, x') - E g(y, y')`` up to sign, over independent pairs: with
``g = -exp(-|x - y|^2 / (2 h^2))`` the squared maximum mean discrepancy, with ``g = |x - y|`` the
energy distance, which has no bandwidth to choose. Pairs of a point with itself are left out, so
both estimates are unbiased at any size and may be slightly negative where the sets agree.

Sources: Gretton et al. 2012, "A kernel two-sample test", equation 3; Szekely and Rizzo 2013,
"Energy statistics", section 2.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, flatten

BLOCK = 2048
"""Rows of a matrix of distances that are held at once."""


def rbf_mmd(x: Float[Tensor, "n *d"], y: Float[Tensor, "m *e"], bandwidth: float) -> float:
    """Return the unbiased squared discrepancy with ``k(x, y) = exp(-|x - y|^2 / (2 h^2))``.

    Args:
        x: Points ``(n, *d)``, ``n >= 2``.
        y: Points ``(m, *d)``, ``m >= 2``.
        bandwidth: ``h > 0`` in units of the data, e.g. :func:`median_distance` of real points:
            figures of different bandwidths cannot be compared.

    Raises:
        InputError: If shapes do not agree, a value is not finite, or ``bandwidth <= 0``.
    """
    if not 0 < bandwidth < float("inf"):
        raise InputError(f"bandwidth must be finite and > 0, got {bandwidth}")
    return _discrepancy(x, y, lambda r: -torch.exp(-r.square() / (2 * bandwidth**2)))


def energy_distance(x: Float[Tensor, "n *d"], y: Float[Tensor, "m *e"]) -> float:
    """Return the unbiased energy distance ``2 E|x - y| - E|x - x'| - E|y - y'|``.

    It is in units of the data; some authors take its root.

    Args:
        x: Points ``(n, *d)``, ``n >= 2``.
        y: Points ``(m, *d)``, ``m >= 2``.

    Raises:
        InputError: If shapes do not agree or a value is not finite.
    """
    return _discrepancy(x, y, lambda r: r)


def median_distance(x: Float[Tensor, "n *d"], most: int = 2000) -> float:
    """Return the median distance of two different points of a set: the usual bandwidth.

    Args:
        x: Points ``(n, *d)``, ``n >= 2``, not all equal.
        most: How many of the first points are looked at, >= 2.

    Raises:
        InputError: If there are less than 2 points, or half of the distances are 0.
    """
    rows = _points(x, "x")[:most]
    found = float(torch.pdist(rows).median())
    if not found > 0:
        raise InputError("the median distance is 0: points must not repeat so often")
    return found


def _discrepancy(x: Tensor, y: Tensor, g: Callable[[Tensor], Tensor]) -> float:
    if x.shape[1:] != y.shape[1:]:
        raise InputError(
            f"x and y must hold points of one shape, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    a, b = _points(x, "x"), _points(y, "y")
    centre = a.mean(dim=0)
    a, b = a - centre, b - centre
    zero = float(g(torch.zeros(1, dtype=a.dtype)))

    def total(u: Tensor, v: Tensor) -> float:
        return sum(float(g(torch.cdist(rows, v)).sum()) for rows in u.split(BLOCK))

    def within(u: Tensor) -> float:
        # cdist of a point and itself is 0 up to rounding, which g may magnify: leave it out exactly
        n, parts = len(u), 0.0
        for start in range(0, n, BLOCK):
            values = g(torch.cdist(u[start : start + BLOCK], u))
            rows = torch.arange(len(values))
            values[rows, rows + start] = zero
            parts += float(values.sum())
        return (parts - n * zero) / (n * (n - 1))

    return 2 * total(a, b) / (len(a) * len(b)) - within(a) - within(b)


def _points(x: Tensor, name: str) -> Tensor:
    if x.ndim < 2 or len(x) < 2:
        raise InputError(f"{name} must hold points (n, *d) with n >= 2, got {tuple(x.shape)}")
    rows = flatten(x.detach().cpu().double())
    if not bool(rows.isfinite().all()):
        raise InputError(f"{name} must be finite")
    return rows
