"""Monotone cubic interpolation of a table, its slope, and its inverse, on any device.

Between two nodes the curve is the cubic with the given values and slopes at both (Hermite). With
the slopes of PCHIP (Fritsch and Butland 1984) it rises wherever the table rises, so that it can be
inverted.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_NEWTON_STEPS = 30


def interpolate(
    x: Float[Tensor, " b"],
    nodes: Float[Tensor, " n"],
    values: Float[Tensor, " n"],
    slopes: Float[Tensor, " n"],
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Return the curve and its slope at ``x``, each ``(b,)`` in the dtype of the table.

    Args:
        x: Places inside the table, shape ``(b,)``; outside, the end pieces are continued.
        nodes: Strictly rising, shape ``(n,)``, n >= 2.
        values: At the nodes.
        slopes: At the nodes.
    """
    x = x.to(nodes.dtype)
    i = torch.searchsorted(nodes, x.contiguous(), right=True).clamp(1, len(nodes) - 1) - 1
    h = nodes[i + 1] - nodes[i]
    u = (x - nodes[i]) / h
    low, high, left, right = values[i], values[i + 1], h * slopes[i], h * slopes[i + 1]
    rise = high - low
    # low + left u + (3 rise - 2 left - right) u^2 + (left + right - 2 rise) u^3
    square, cube = 3 * rise - 2 * left - right, left + right - 2 * rise
    value = low + u * (left + u * (square + u * cube))
    return value, (left + u * (2 * square + u * 3 * cube)) / h


def invert(
    y: Float[Tensor, " b"],
    nodes: Float[Tensor, " n"],
    values: Float[Tensor, " n"],
    slopes: Float[Tensor, " n"],
) -> Float[Tensor, " b"]:
    """Return where the rising curve has the value ``y``, shape ``(b,)``, in the table's dtype.

    Newton's method, kept inside the piece that holds ``y``.
    """
    y = y.to(values.dtype)
    i = torch.searchsorted(values, y.contiguous(), right=True).clamp(1, len(values) - 1) - 1
    low, high = nodes[i], nodes[i + 1]
    x = low + (high - low) * (y - values[i]) / (values[i + 1] - values[i])
    for _ in range(_NEWTON_STEPS):
        value, slope = interpolate(x, nodes, values, slopes)
        beyond = value > y
        high, low = torch.where(beyond, x, high), torch.where(beyond, low, x)
        step = x - (value - y) / slope
        x = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
    return x


def pchip_slopes(nodes: Float[Tensor, " n"], values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the slopes of PCHIP at the nodes, in float64 on the CPU; found by SciPy."""
    from scipy.interpolate import PchipInterpolator

    at = nodes.cpu().numpy()
    curve = PchipInterpolator(at, values.cpu().numpy())
    return torch.as_tensor(curve.derivative()(at), dtype=torch.float64)
