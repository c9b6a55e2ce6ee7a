"""Choosing the strength of pair weights: the elbow of the tilt.

Small ``kappa`` shortens the paths and tilts both distributions, large ``kappa`` does neither. The
rule: the smallest ``kappa`` from which on the tilt has stopped falling, ``|d RV / d log kappa|``
below a given slope for the source and for the data.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, flatten


@dataclass(frozen=True)
class Strength:
    """What pair weights of one strength do.

    Args:
        kappa: The strength, in units of ``sqrt(d)``.
        epsilon: ``kappa sqrt(d)``, in units of distance.
        rv_x: Relative variance of the tilt of the source, 0 for none; below 0 only by noise.
        rv_y: That of the data.
        ess: Effective share of random pairs, in (0, 1].
        cost: Mean distance of pairs under the weights over that without, in (0, 1].
    """

    kappa: float
    epsilon: float
    rv_x: float
    rv_y: float
    ess: float
    cost: float


@torch.no_grad()
def strengths(
    x_0: Float[Tensor, "n *d"], x_1: Float[Tensor, "m *e"], kappas: Sequence[float]
) -> list[Strength]:
    """Return what each of ``kappas`` does to the law of independent pairs.

    The relative variance of ``tau(x) = E_y w(x, y)`` is the covariance of two estimates of ``tau``
    from separate halves of the other side, so the noise of the sample does not count as tilt.

    Args:
        x_0: Source samples ``(n, *d)``, n >= 4.
        x_1: Data samples ``(m, *d)`` in the model's space, m >= 4, the same shape of a sample.
        kappas: Each > 0.

    Raises:
        InputError: If there are too few samples, shapes differ, or a value is out of range.

    Source: weighted conditional flow matching, arXiv 2507.22270, for the rule.
    """
    if x_0.shape[1:] != x_1.shape[1:] or min(len(x_0), len(x_1)) < 4:
        raise InputError(
            f"x_0 and x_1 must hold at least 4 samples of one shape, got {tuple(x_0.shape)} and "
            f"{tuple(x_1.shape)}"
        )
    if not all(0 < kappa < math.inf for kappa in kappas):
        raise InputError(f"every kappa must be > 0 and finite, got {list(kappas)}")
    x, y = (flatten(v).to(torch.promote_types(v.dtype, torch.float32)) for v in (x_0, x_1))
    distance = torch.cdist(x, y)
    if not bool(distance.isfinite().all()):
        raise InputError("x_0 and x_1 must be finite")
    nearest, mean = distance.min(), distance.mean()
    found = []
    for kappa in kappas:
        epsilon = kappa * math.sqrt(x.shape[1])
        weight = ((nearest - distance) / epsilon).exp()
        total = weight.sum(dtype=torch.float64)
        found.append(
            Strength(
                kappa=float(kappa),
                epsilon=epsilon,
                rv_x=_relative_variance(weight),
                rv_y=_relative_variance(weight.mT),
                ess=float(total**2 / weight.square().sum(dtype=torch.float64) / weight.numel()),
                cost=float((weight * distance).sum(dtype=torch.float64) / total / mean),
            )
        )
    return found


def slopes(rows: Sequence[Strength]) -> list[float]:
    """Return ``max |d RV / d log kappa|`` over both sides, at each row, by finite differences.

    Args:
        rows: At least 2, with growing ``kappa``.

    Raises:
        InputError: If there are fewer, or ``kappa`` does not grow.
    """
    logs = [math.log(row.kappa) for row in rows]
    if len(rows) < 2 or any(b <= a for a, b in zip(logs, logs[1:], strict=False)):
        raise InputError("at least 2 values of kappa are needed, each above the one before")
    found = []
    for i in range(len(rows)):
        low, high = max(i - 1, 0), min(i + 1, len(rows) - 1)
        width = logs[high] - logs[low]
        change = (
            abs(rows[high].rv_x - rows[low].rv_x),
            abs(rows[high].rv_y - rows[low].rv_y),
        )
        found.append(max(change) / width)
    return found


def elbow(rows: Sequence[Strength], slope: float = 0.05) -> Strength | None:
    """Return the row of the smallest ``kappa`` from which on all slopes stay below ``slope``.

    Args:
        rows: At least 2, with growing ``kappa``.
        slope: Of the relative variance by ``log kappa``, > 0.

    Returns:
        The row, or None if the tilt still falls at the largest ``kappa``.

    Raises:
        InputError: If ``slope`` is not positive.
    """
    if not slope > 0:
        raise InputError(f"slope must be > 0, got {slope}")
    found = None
    for row, steep in zip(reversed(rows), reversed(slopes(rows)), strict=True):
        if steep >= slope:
            break
        found = row
    return found


def _relative_variance(weight: Tensor) -> float:
    """Return the relative variance over rows of the mean over columns, without its noise."""
    half = weight.shape[1] // 2
    a, b = weight[:, :half].double().mean(dim=1), weight[:, half:].double().mean(dim=1)
    product = a.mean() * b.mean()
    return float(((a - a.mean()) * (b - b.mean())).mean() / product)
