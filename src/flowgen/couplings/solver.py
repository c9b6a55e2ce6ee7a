"""Exact optimal transport between two samples of equal size: an assignment problem.

For uniform weights some optimal plan is a permutation (Birkhoff). The sum of ``|x_0 - x_1|^2`` over
a permutation is a constant minus twice the sum of ``x_0 . x_1``, and moving either cloud adds
another constant, so the smallest sum of ``-x_0 . x_1`` has the same optimum, with clouds far from
the origin moved to it; it is one matrix product and the solver needs half the time on it. Optimal
up to the rounding of the cost matrix, whose type is that of the samples and at least float32.

The solver is the fastest one measured for the size (``benchmarks/couplings.py``); all are exact.
On a line it is a sort. Jonker-Volgenant in its newer form (lapx) is fastest for small batches. On
larger ones potentials from Sinkhorn sweeps leave little to do when they are taken off the cost: see
:mod:`flowgen.couplings.reduced_cost`. In few dimensions neighbours compete, and what is left is
solved on the likely pairs alone: see :mod:`flowgen.couplings.sparse_assignment`.
"""

import math
import time
from collections.abc import Callable
from typing import TypeVar, cast

import lap
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError, Pair, flatten
from flowgen.couplings.figures import with_figures
from flowgen.couplings.products import inner_products
from flowgen.couplings.reduced_cost import Stages, reduce_cost, reduce_few, spread_of
from flowgen.couplings.sparse_assignment import sparse_permutation

Cloud = TypeVar("Cloud", Tensor, np.ndarray)

_FEW_DIMS = 8
"""Dimensions up to which neighbours compete so much that potentials must be good."""

_SMALL = 64
"""Rows up to which the calls take longer than the arithmetic: NumPy's take half the time."""

_MEDIUM = 160
"""Rows up to which a few sweeps at one strength are enough, in few dimensions."""

_SMALL_IN_MANY = 256
"""Rows up to which potentials cost more than they save, in many dimensions."""

_SPARSE = 1024
"""Rows from which on the likely pairs are solved alone."""

_MOST_SPARSE = 4096
"""Rows from which on, in few dimensions, too few of them are likely after few sweeps."""

_MOVED = 2**12
"""Numbers of a cloud up to which it is moved to the origin, be it far or not."""

_MANY: Stages = ((0.15, 5),)
_FEW_ROWS = 0.15, 5
_FEW: Stages = ((0.15, 10), (0.03, 10))
_FINE: Stages = ((0.15, 10), (0.03, 10), (0.01, 20))
_FINEST: Stages = ((0.15, 10), (0.05, 10), (0.015, 20), (0.005, 40))

_WIDTH = 3
"""Reduced cost of likely pairs in units of the last strength."""


def optimal_permutation(
    x_0: Float[Tensor, "n *d"], x_1: Float[Tensor, "m *e"]
) -> Int[Tensor, " n"]:
    """Return ``index`` such that the pairs ``(x_0[index], x_1)`` have the least squared distance.

    ``index`` minimises ``sum_i |x_0[index[i]] - x_1[i]|^2`` over all permutations. The solver runs
    on the CPU and so waits for an accelerator; time O(n^3), memory O(n^2).

    Args:
        x_0: Source samples, shape ``(n, *d)``, finite.
        x_1: Data samples, the same shape and device.

    Returns:
        A permutation of ``0 .. n - 1``, shape ``(n,)``, int64, on the device of ``x_1``.

    Raises:
        InputError: If the shapes differ, or a value is not finite or its square overflows.

    Source: Jonker and Volgenant 1987 by way of lapx; Pooladian et al. 2023,
        arXiv 2304.14772, for the use in flow matching.
    """
    if x_0.shape != x_1.shape:
        raise InputError(
            f"x_0 and x_1 must have one shape, got {tuple(x_0.shape)} and {tuple(x_1.shape)}"
        )
    a, b = _rows(x_1), _rows(x_0)
    if len(a) <= _SMALL and a.shape[1] > 1 and a.device.type == "cpu":
        return torch.from_numpy(_few_rows(a.numpy(), b.numpy())).to(torch.int64)
    cost = inner_products(_near_origin(a), _near_origin(b)).neg_()
    # The sum, which is cheap, is finite only if all costs are.
    if not math.isfinite(float(cost.sum())):
        _check_finite(cost)
    if a.shape[1] == 1:
        return _on_a_line(a.flatten(), b.flatten())
    index = _few_dims(cost) if a.shape[1] <= _FEW_DIMS else _many_dims(cost)
    return torch.from_numpy(index).to(x_1.device, torch.int64)


def _rows(x: Float[Tensor, "n *d"]) -> Float[Tensor, "n e"]:
    """Return samples as rows of at least single precision."""
    # Of a small batch each call that changes nothing would be a good part of the time.
    x = x.detach() if x.requires_grad else x
    x = x if x.ndim == 2 else flatten(x)
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _near_origin(x: Cloud) -> Cloud:
    """Return a cloud ``(n, d)``, less its mean if that is most of it: its products are finer then.

    A large one is judged by two of its points, since a copy of it may take longer than the solver.
    """
    a, b = x[0], x[len(x) // 2]
    if len(x) * len(a) > _MOVED and not bool(a @ b > 0.25 * (a @ a + b @ b)):
        return x
    return cast("Cloud", x - x.mean(0))


def _check_finite(cost: Float[Tensor, "n n"]) -> None:
    if not bool(cost.isfinite().all()):
        raise InputError(
            "x_0 and x_1 must be finite with finite squares, else no pair has a cost: "
            f"{int((~cost.isfinite()).sum())} of {cost.numel()} costs are not"
        )


def _few_rows(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
    """Return the row of ``b`` for each row of ``a``, with as few calls as can be."""
    with np.errstate(all="ignore"):
        cost = _near_origin(a) @ _near_origin(b).T
        total = float(cost.sum())
        np.negative(cost, out=cost)
    if not math.isfinite(total):
        _check_finite(torch.from_numpy(cost))
    return _jonker_volgenant(cost)


def _few_dims(cost: Float[Tensor, "n n"]) -> Int[np.ndarray, " n"]:
    """Return the best column of each row; overwrites the cost."""
    n = len(cost)
    if n <= _MEDIUM:
        return _jonker_volgenant(reduce_few(cost.cpu().numpy(), *_FEW_ROWS))
    spread = spread_of(cost)
    if n < _SPARSE:
        return _jonker_volgenant(reduce_cost(cost, _FEW, spread).cpu().numpy())
    stages = _FINE if n < _MOST_SPARSE else _FINEST
    left = reduce_cost(cost, stages, spread).cpu()
    return sparse_permutation(left, _WIDTH * stages[-1][0] * spread)


def _many_dims(cost: Float[Tensor, "n n"]) -> Int[np.ndarray, " n"]:
    """Return the best column of each row; overwrites the cost."""
    n = len(cost)
    if n <= _SMALL_IN_MANY:
        return _jonker_volgenant(cost.cpu().numpy())
    spread = spread_of(cost)
    left = reduce_cost(cost, _MANY, spread).cpu()
    if n < _SPARSE:
        return _jonker_volgenant(left.numpy())
    return sparse_permutation(left, _WIDTH * _MANY[-1][0] * spread)


def _jonker_volgenant(cost: Float[np.ndarray, "n n"]) -> Int[np.ndarray, " n"]:
    return lap.lapjvh(cost, return_cost=False)[1]


def _on_a_line(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return the row of ``b`` for each row of ``a``, both in their order."""
    index = torch.empty(len(a), dtype=torch.int64, device=a.device)
    index[a.argsort()] = b.argsort()
    return index


def repair(pair: Pair, solve: Callable[[Tensor, Tensor], Tensor], *, name: str) -> Pair:
    """Return ``pair`` with the rows of ``x_0`` permuted by ``solve(x_0, x_1)`` and its figures.

    The result is the optimum, so ``coupling/optimality`` is 1.

    Args:
        pair: Without weights; ``x_1`` and ``cond`` stay where they are.
        solve: Returns the row of ``x_0`` that goes to each row of ``x_1``.
        name: Of the coupling, for the error.

    Raises:
        InputError: If the pair carries weights.
    """
    if pair.weight is not None:
        raise InputError(
            f"{name} got pairs with weights: permuting x_0 would weigh the source by where it was "
            "sent; weigh the pairs after the coupling"
        )
    start = time.perf_counter()
    x_0 = pair.x_0[solve(pair.x_0, pair.x_1)]
    elapsed = 1e3 * (time.perf_counter() - start)
    after = Pair(x_0, pair.x_1, pair.cond)
    return with_figures(pair, after, ms=elapsed, extra={"coupling/optimality": 1.0})
