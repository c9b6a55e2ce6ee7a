"""How far the pairs of a batch are from those of least cost, by a second solver or by a dual value.

All look at 256 of the pairs at most. Any part of an optimal set of pairs is optimal among its own
rows, so a part can only hide an excess, never feign one.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import Pair
from flowgen.couplings.figures import cost_of
from flowgen.couplings.solver import optimal_permutation

MOST_ROWS = 256
"""Pairs that are looked at, so that it takes one to two milliseconds whatever the batch."""

_ROUNDING = 1e-12


def excess_of(pair: Pair) -> Float[Tensor, ""]:
    """Return the cost of the pairs above the least of the same rows, per dimension, >= 0.

    The least is that of an exact assignment. Of a larger batch the first 256 pairs are looked at,
    which could go to each other only: what is found is then less than the true excess.

    Args:
        pair: Each side ``(b, *d)``, finite.
    """
    some = Pair(pair.x_0[:MOST_ROWS], pair.x_1[:MOST_ROWS])
    least = Pair(some.x_0[optimal_permutation(some.x_0, some.x_1)], some.x_1)
    return (cost_of(some) - cost_of(least)).clamp(min=0)


def dual_gap(cost: Float[Tensor, "n n"], partner: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return a proven bound of the mean cost of the pairs above the least of all ways, >= 0.

    Let the pairs be ``(i, i)``. Potentials ``g`` bound the least mean cost from below by ``mean_i
    min_j (c_ij - g_j) + mean_j g_j``, whatever they are. The shortest paths ``g_j = min_i (g_i +
    c_ij - c_ii)`` make that the cost of the pairs themselves, and exist if and only if these are
    optimal (Bellman and Ford): the gap is then 0 up to rounding. If they are not, what the sweeps
    have reached still bounds the excess, from above.

    Args:
        cost: Finite, on the CPU. Of a larger matrix 256 of the pairs are looked at, evenly spread.
        partner: Column of each row, a permutation.
    """
    n = len(cost)
    rows = torch.linspace(0, n - 1, min(n, MOST_ROWS), dtype=torch.float64).long()
    cost = cost[rows[:, None], partner[rows]].double()
    own = cost.diagonal()
    # One row for each column, so that a sweep goes along the memory.
    step = (cost - own[:, None]).mT.contiguous()
    small = _ROUNDING * float(step.abs().amax())
    g = torch.zeros_like(own)
    for _ in range(len(rows)):
        before, g = g, (step + g).amin(dim=1)
        # Ways round that cost nothing would go on for ever, by rounding.
        if float((before - g).amax()) <= small:
            break
    bound = (cost - g).amin(dim=1).mean() + g.mean()
    return (own.mean() - bound).clamp(min=0)


def share_saved(
    given: Float[Tensor, ""], cost: Float[Tensor, ""], gap: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return ``coupling/optimality``: the share of ``given - least`` that is gone at ``cost``.

    Args:
        given: Cost of what the pairs are compared with.
        cost: Of the pairs.
        gap: ``cost - least``, or a bound of it from above, which makes the share one from below.

    Returns:
        A scalar in [0, 1] on the same device, 1 where the gap is no more than rounding and 0 where
        the pairs cost more than what was given, as a stable matching of a few rows may; nothing
        waits for it.
    """
    numbers = torch.finfo(given.dtype)
    gap = torch.where(gap <= 8 * numbers.eps * given.abs(), 0.0, gap)
    could = (given - cost + gap).clamp(min=numbers.tiny)
    return 1 - gap / torch.maximum(could, gap)


def plan_optimality(
    cost: Float[Tensor, "n m"], log_plan: Float[Tensor, "n m"], epsilon: float
) -> Float[Tensor, ""]:
    """Return a lower bound of the optimality of a plan between its own marginals ``a`` and ``b``.

    The plan is ``P_ij = exp(f_i + g_j - c_ij / epsilon)`` up to a factor. Its cost is compared with
    that of independent pairs, ``a c b``, and with the dual value ``sum_i a_i min_j (c_ij - epsilon
    g_j) + epsilon sum_j b_j g_j``, which no plan with these marginals is below.

    Args:
        cost: Of all pairs.
        log_plan: Logarithms of the plan, up to a constant.
        epsilon: Its strength, in units of the cost.

    Returns:
        A scalar in [0, 1] on the same device; nothing waits for it.
    """
    plan = log_plan.flatten().softmax(0).reshape(log_plan.shape)
    a, b = plan.sum(dim=1), plan.sum(dim=0)
    # The mean over rows of f is a constant, which any potential may have more.
    g = (epsilon * log_plan + cost).mean(dim=0)
    bound = a @ (cost - g).amin(dim=1) + b @ g
    value = (plan * cost).sum()
    return share_saved(a @ cost @ b, value, value - bound)
