"""A cost less potentials from a few Sinkhorn sweeps: what is left of it tells good pairs from bad.

Potentials change the sums of all permutations alike, so rounding in the sweeps, or too few of them,
cannot change the optimum: it only leaves more to do for the solver. The strength falls from stage
to stage, and each kernel is made of what the potentials before have left of the cost. On a CPU the
passes go over blocks of rows that stay in the cache.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Stages = tuple[tuple[float, int], ...]
"""Strengths, in standard deviations of the cost, and how many Sinkhorn sweeps at each."""

_SMALLEST = -43.0
"""Exponents of 2 are at least this: nothing becomes denormal, no row or column without mass."""

_BLOCK = 2**17
"""Costs in a block on a CPU."""

_OF_MEAN_SIZE = math.sqrt(math.pi / 2)

_SAMPLE = 16
"""Rows from which the spread of the cost is taken."""


def row_blocks(cost: Float[Tensor, "n m"]) -> list[slice]:
    """Return which rows to work on at once."""
    n, m = cost.shape
    step = max(1, _BLOCK // m) if cost.device.type == "cpu" else n
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def spread_of(cost: Float[Tensor, "n m"]) -> float:
    """Return about the standard deviation of what is no constant of a row or column, above 0.

    It is ``sqrt(pi / 2)`` of the mean size, as for normal numbers, taken from some of the rows:
    squares could overflow.
    """
    some = cost[:: max(1, len(cost) // _SAMPLE)]
    some = some - some.mean(dim=1, keepdim=True)
    some -= some.mean(dim=0)
    return max(_OF_MEAN_SIZE * float(some.abs().mean()), torch.finfo(cost.dtype).tiny)


def reduce_cost(cost: Float[Tensor, "n m"], stages: Stages, spread: float) -> Float[Tensor, "n m"]:
    """Take potentials off the cost, in place, and return it: none below 0, 0 in each row.

    Args:
        cost: Finite; overwritten.
        stages: Strengths in units of ``spread``, falling, and sweeps at each.
        spread: Of the cost, > 0.
    """
    blocks = row_blocks(cost)
    g = cost.new_zeros(cost.shape[1])
    kernel = torch.empty_like(cost)
    for share, sweeps in stages:
        epsilon = share * spread
        for rows in blocks:
            part = torch.sub(g, cost[rows], out=kernel[rows])
            part -= part.amax(dim=1, keepdim=True)
            # Powers of 2 take half the time of those of e.
            part.div_(epsilon * math.log(2)).clamp_(min=_SMALLEST).exp2_()
        g += epsilon * _scaling(kernel, sweeps, blocks).log_()
    for rows in blocks:
        part = cost[rows]
        part -= g
        part -= part.amin(dim=1, keepdim=True)
    return cost


def reduce_few(
    cost: Float[np.ndarray, "n m"], share: float, sweeps: int
) -> Float[np.ndarray, "n m"]:
    """Do what :func:`reduce_cost` does in one stage, in place, for some tens of rows.

    There the calls take longer than the arithmetic, and NumPy's calls take half the time.

    Args:
        cost: Finite, of mean about 0 in each row; overwritten.
        share: Strength in standard deviations of the cost, above 0.
        sweeps: At least 1.
    """
    size = float(np.abs(cost[:: max(1, len(cost) // _SAMPLE)]).mean())
    epsilon = share * max(_OF_MEAN_SIZE * size, float(np.finfo(cost.dtype).tiny))
    kernel = cost - cost.min(axis=1, keepdims=True)
    kernel /= -epsilon
    np.exp(np.maximum(kernel, _SMALLEST * math.log(2), out=kernel), out=kernel)
    v = np.ones(cost.shape[1], cost.dtype)
    for _ in range(sweeps):
        v = 1 / (kernel.T @ (1 / (kernel @ v)))
    cost -= epsilon * np.log(v)
    cost -= cost.min(axis=1, keepdims=True)
    return cost


def _scaling(kernel: Tensor, sweeps: int, blocks: list[slice]) -> Tensor:
    """Return the scaling of the columns after some sweeps; each passes over the kernel once."""
    v = kernel.new_ones(kernel.shape[1])
    for _ in range(sweeps):
        sums = torch.zeros_like(v)
        for rows in blocks:
            part = kernel[rows]
            sums.addmv_(part.mT, torch.mv(part, v).reciprocal_())
        v = sums.reciprocal_()
    return v
