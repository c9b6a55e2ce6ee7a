"""Partial transport: only the share of a batch that is cheapest to pair, the rest left out.

Of all ways to choose ``k`` noises, ``k`` samples and pairs between them the one of least total cost
is an assignment of a larger matrix: ``n - k`` further rows take the columns that are left out, as
many further columns the rows, both for nothing, and a further row must not meet a further column.
A price above 0 forbids that: an assignment with ``t`` such meetings has ``k + t`` true pairs, the
cheapest ``k`` of which cost no more, so it is never the best.

This changes both ends. Far samples are not learnt, as wanted of outliers, and noise that is far
from all data is not trained on, though sampling will draw it.
"""

import math
import time

import lap
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError, Pair
from flowgen.couplings.drawing import check_free
from flowgen.couplings.figures import cost_of, with_figures
from flowgen.couplings.optimality import dual_gap, share_saved
from flowgen.couplings.pair_costs import MAX_ELEMENTS
from flowgen.couplings.squared_costs import check_max_elements, squared_costs

_ROUNDING = 1e-9
"""0.7 times 10 is 7, not 8, rows."""


class PartialAssignment:
    """Pairs the share of the batch that is cheapest to pair and fills the batch with these pairs.

    Solved exactly, on the CPU from any device. Each of the ``k`` pairs comes ``floor(n / k)`` or
    ``ceil(n / k)`` times, so that the batch keeps its size.

    Args:
        mass: Share of the rows that is paired, in (0, 1]: ``k = ceil(mass n)``. 1 is
            :class:`ExactAssignment`.
        max_elements: Pairs of rows up to which all costs are held in memory, >= 1.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: False: what is far from the other side is left out, on both sides.
        condition_safe: False, hence a pair with a condition is refused.

    Raises:
        InputError: If a number is out of range.

    Source: Chapel et al. 2020, arXiv 2002.08276, for the larger matrix.
    """

    score_valid: bool = False
    exact_marginals: bool = False
    condition_safe: bool = False

    def __init__(self, mass: float, *, max_elements: int = MAX_ELEMENTS) -> None:
        if not 0 < mass <= 1:
            raise InputError(f"mass must be in (0, 1], got {mass}")
        check_max_elements(max_elements)
        self.mass = mass
        self.max_elements = max_elements

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return as many rows as were given, drawn from the pairs of least cost.

        Args:
            pair: Unconditional and unweighted, each side ``(b, *d)``.
            generator: Of the pairs that come once more than others, and of the order.

        Returns:
            The pairs, in random order, with the usual stats and ``coupling/mass`` (``k / b``) and
            ``coupling/dropped_cost``: the mean squared distance per dimension of a sample that was
            left out from the nearest noise of the batch, 0 if none was. ``coupling/optimality``
            compares with the cheapest ``k`` pairs of the batch, not with an assignment of all its
            rows, by the proof of :func:`flowgen.couplings.optimality.dual_gap`.

        Raises:
            InputError: If the pair has a condition or weights, has too many rows, or its values
                are not finite.
        """
        name = type(self).__name__
        check_free(pair, name)
        start = time.perf_counter()
        n = len(pair)
        k = math.ceil(self.mass * n - _ROUNDING)
        cost = squared_costs(pair, name, max_elements=self.max_elements, dtype=torch.float64)
        whole, columns = _assigned(cost, k)
        i, j = _true_pairs(cost, columns)
        chosen = _filled(k, n, generator).to(cost.device)
        after = Pair(pair.x_0[i[chosen]], pair.x_1[j[chosen]])
        elapsed = 1e3 * (time.perf_counter() - start)
        left_out = torch.ones(n, dtype=torch.bool, device=cost.device)
        left_out[j] = False
        far = (cost.amin(dim=0) * left_out).sum() / max(n - k, 1)
        dims = pair.x_0[0].numel()
        # Only k of the pairs of the larger matrix cost anything.
        gap = dual_gap(torch.from_numpy(whole), torch.from_numpy(columns)) * len(whole) / k
        least = cost[i, j].mean().cpu() / dims
        extra = {
            "coupling/mass": k / n,
            "coupling/dropped_cost": far / dims,
            "coupling/optimality": share_saved(cost_of(pair).to(least), least, gap / dims),
        }
        return with_figures(pair, after, ms=elapsed, extra=extra)


def cheapest_pairs(
    cost: Float[Tensor, "n n"], k: int
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Return rows and columns of the ``k`` disjoint pairs of least total cost, by rows.

    Args:
        cost: Finite and not negative.
        k: Number of pairs, in [1, n].

    Raises:
        InputError: If ``k`` is out of range.
    """
    n = len(cost)
    if not 1 <= k <= n:
        raise InputError(f"k must be in [1, {n}], got {k}")
    return _true_pairs(cost, _assigned(cost, k)[1])


def _assigned(
    cost: Float[Tensor, "n n"], k: int
) -> tuple[Float[np.ndarray, "m m"], Int[np.ndarray, " m"]]:
    """Return the larger matrix, of ``2 n - k`` rows, and the column of each of its rows."""
    n = len(cost)
    size = 2 * n - k
    whole = np.zeros((size, size))
    whole[:n, :n] = cost.cpu().numpy()
    whole[n:, n:] = whole.max() or 1.0
    return whole, lap.lapjvh(whole)[2]


def _true_pairs(
    cost: Float[Tensor, "n n"], columns: Int[np.ndarray, " m"]
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Return rows and columns of the pairs that are not with a further row or column."""
    n = len(cost)
    rows = np.flatnonzero(columns[:n] < n)
    i, j = (torch.from_numpy(part).to(cost.device, torch.int64) for part in (rows, columns[rows]))
    return i, j


def _filled(k: int, n: int, generator: torch.Generator | None) -> Int[Tensor, " n"]:
    """Return ``n`` numbers below ``k``, each ``floor`` or ``ceil`` of ``n / k`` times, shuffled."""
    device = None if generator is None else generator.device
    order = torch.randperm(k, generator=generator, device=device)
    again = order.repeat(-(-n // k))[:n]
    return again[torch.randperm(n, generator=generator, device=device)]
