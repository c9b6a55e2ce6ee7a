"""Transport plans whose columns have few entries: a quadratic term, and a limit on their number.

For ``n`` rows and columns of equal weights the plan minimises

    ``<P, C> + (gamma n / 2) |P|^2``  with at most ``k`` entries above 0 in each column.

``n |P|^2`` is the chance that two partners drawn for one column are the same row: 1 for a
permutation, ``1 / n`` for independent pairs. With ``k = 1`` it is constant, which leaves plain
transport; ``k = n`` is quadratic transport. The semi-dual, over potentials ``alpha`` of the rows,

    ``max  mean(alpha) - mean_j max_p [<p, alpha - C_j> - gamma |p|^2 / 2]``,

is concave; ``p`` is a law with at most ``k`` entries, and the best one is the projection of the
``k`` largest of ``(alpha - C_j) / gamma`` onto the simplex. Columns of ``P`` are these ``p / n``.
As few entries are not a convex condition, the rows may be missed even at the maximum, where entries
tie: the plan is then rounded to one with both marginals (Altschuler et al. 2017).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from torch import Tensor

from flowgen.core import InputError

_MEMORY = 20
"""Steps that L-BFGS remembers."""


@dataclass(frozen=True)
class SparsePlan:
    """What :func:`sparse_plan` returns; everything on the CPU in float64.

    Args:
        weights: The plan ``(n, n)``; its columns have exact mass ``1 / n``, its rows about that.
        alpha: Potentials of the rows, ``(n,)``.
        error: L1 distance of the row sums from ``1 / n``.
        iterations: Steps taken.
    """

    weights: Float[Tensor, "n n"]
    alpha: Float[Tensor, " n"]
    error: float
    iterations: int


def sparse_plan(
    cost: Float[Tensor, "n n"],
    gamma: float,
    k: int,
    *,
    tolerance: float,
    max_iterations: int,
) -> SparsePlan:
    """Return the plan at the maximum of the semi-dual, found by L-BFGS in double precision.

    Args:
        cost: Finite.
        gamma: Strength of the quadratic term, in units of the cost, > 0.
        k: Most entries of a column, in [1, n].
        tolerance: L1 error of the row sums to stop at, > 0.
        max_iterations: After which to give up, >= 1.

    Raises:
        InputError: If ``k`` is out of range.

    Source: Liu et al. 2023, arXiv 2209.15466, equations 7 to 11.
    """
    n = len(cost)
    if not 1 <= k <= n:
        raise InputError(f"k must be in [1, {n}], got {k}")
    columns = cost.to("cpu", torch.float64).mT.contiguous()

    def loss(alpha: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = semi_dual(torch.from_numpy(alpha), columns, gamma, k)
        return -float(value), -gradient.numpy()

    # The largest error of a row is what L-BFGS looks at.
    options = {
        "maxiter": max_iterations,
        "maxfun": 2 * max_iterations,
        "maxcor": _MEMORY,
        "gtol": tolerance / n,
        "ftol": float(np.finfo(float).eps),
    }
    found = minimize(loss, np.zeros(n), jac=True, method="L-BFGS-B", options=options)
    alpha = torch.from_numpy(found.x)
    law, rows = sparse_simplex((alpha - columns) / gamma, k)
    weights = torch.zeros_like(columns).scatter_(1, rows, law / n).mT
    error = float((weights.sum(dim=1) - 1 / n).abs().sum())
    return SparsePlan(weights, alpha, error, int(found.nit))


def semi_dual(
    alpha: Float[Tensor, " n"], columns: Float[Tensor, "m n"], gamma: float, k: int
) -> tuple[Float[Tensor, ""], Float[Tensor, " n"]]:
    """Return the semi-dual at ``alpha`` and its gradient: what the rows of the plan lack.

    Args:
        alpha: Potentials of the rows.
        columns: The cost, transposed.
        gamma: Strength, in units of the cost.
        k: Most entries of a column.
    """
    m, n = columns.shape
    scores = (alpha - columns) / gamma
    law, rows = sparse_simplex(scores, k)
    gain = (law * scores.gather(1, rows)).sum(dim=1) - law.square().sum(dim=1) / 2
    mass = torch.zeros_like(alpha).index_add_(0, rows.flatten(), law.flatten())
    return alpha.mean() - gamma * gain.mean(), 1 / n - mass / m


def sparse_simplex(
    scores: Float[Tensor, "m n"], k: int
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """Return the laws with at most ``k`` entries nearest to each row of ``scores``, and where.

    They maximise ``<p, scores> - |p|^2 / 2``: the ``k`` largest scores, projected onto the simplex.
    """
    largest, where = scores.topk(k, dim=1)
    excess = largest.cumsum(dim=1) - 1
    number = torch.arange(1, k + 1, device=scores.device)
    support = (largest > excess / number).sum(dim=1, keepdim=True)
    level = excess.gather(1, support - 1) / support
    return (largest - level).clamp(min=0), where


def rounded(
    plan: Float[Tensor, "n m"], a: Float[Tensor, " n"], b: Float[Tensor, " m"]
) -> Float[Tensor, "n m"]:
    """Return a plan near ``plan`` with marginals ``a`` and ``b``.

    Rows and columns with too much are scaled down, and what then lacks is added as a product of
    both sides: moves, in the L1 norm, at most twice the L1 errors of both marginals.

    Source: Altschuler, Weed and Rigollet 2017, arXiv 1705.09634, algorithm 2.
    """
    plan = plan * (a / plan.sum(dim=1)).clamp(max=1)[:, None]
    plan = plan * (b / plan.sum(dim=0)).clamp(max=1)
    # Where nothing lacks, rounding leaves numbers of any sign.
    rows, columns = ((s - t).clamp(min=0) for s, t in ((a, plan.sum(dim=1)), (b, plan.sum(dim=0))))
    share = rows / rows.sum().clamp(min=torch.finfo(plan.dtype).tiny)
    return plan + share[:, None] * columns
