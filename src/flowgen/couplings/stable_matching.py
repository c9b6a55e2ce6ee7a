"""Stable matching: no noise and sample of a batch are nearer to each other than to their partners.

Where each side ranks the other by distance, the nearest pair of all must be matched, then the
nearest pair of the rest, and so on: where distances differ, this greedy matching is the only stable
one, hence the one that deferred acceptance (Gale and Shapley) finds. Stability is weaker than least
total cost, for the last pairs are far apart. Any rule that treats rows alike and returns a
permutation keeps both marginals.

Of all pairs in their order only the nearest few matter at a time: once those are worked off, the
rows and columns that are taken leave the matrix, and the rest is far smaller. A stage takes at
least a sixteenth of the pairs, so no data can make it much more than a sort.
"""

import time

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import Pair
from flowgen.couplings.drawing import check_free
from flowgen.couplings.figures import cost_of, with_figures
from flowgen.couplings.optimality import excess_of, share_saved
from flowgen.couplings.pair_costs import MAX_ELEMENTS
from flowgen.couplings.squared_costs import check_max_elements, squared_costs

_PER_ROW = 16
"""Pairs for each free row that a stage takes at least."""

_SHARE = 16
"""A stage takes at least one in so many pairs."""


class StableMatching:
    """Permutes ``x_0`` so that no pair blocks: the greedy matching by distance.

    Cheaper than an assignment for large batches and not as good; solved on the CPU from any
    device. Of pairs at equal distance the one with the first row of ``x_1`` goes first, then the
    one with the first row of ``x_0``.

    Args:
        max_elements: Pairs of rows up to which all costs are held in memory, >= 1.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: True.
        condition_safe: False, hence a pair with a condition is refused.

    Raises:
        InputError: If ``max_elements`` is less than 1.

    Source: Pooladian et al. 2023, arXiv 2304.14772, for flow matching; Gale and
        Shapley 1962.
    """

    score_valid: bool = False
    exact_marginals: bool = True
    condition_safe: bool = False

    def __init__(self, *, max_elements: int = MAX_ELEMENTS) -> None:
        check_max_elements(max_elements)
        self.max_elements = max_elements

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the stable pairs; draws nothing.

        Args:
            pair: Unconditional and unweighted, each side ``(b, *d)``; ``x_1`` stays in place.
            generator: Unused: the matching is deterministic.

        Returns:
            The coupled pair, with the stats of :func:`flowgen.couplings.with_figures`.
            ``coupling/optimality`` is against the assignment of least cost, of up to 256 pairs;
            of more it is that of the first 256 among themselves, which is a little too good.

        Raises:
            InputError: If the pair has a condition or weights, has too many rows, or its values
                are not finite.
        """
        del generator
        check_free(pair, type(self).__name__)
        start = time.perf_counter()
        cost = squared_costs(pair, type(self).__name__, max_elements=self.max_elements)
        partner = stable_permutation(cost.mT)
        after = Pair(pair.x_0[partner], pair.x_1)
        elapsed = 1e3 * (time.perf_counter() - start)
        optimality = share_saved(cost_of(pair), cost_of(after), excess_of(after))
        return with_figures(pair, after, ms=elapsed, extra={"coupling/optimality": optimality})


def stable_permutation(cost: Float[Tensor, "n n"]) -> Int[Tensor, " n"]:
    """Return the column that each row is matched with, where all rank by ``cost``.

    Args:
        cost: Finite; of equal costs the one in the first row, then column, goes first.

    Returns:
        A permutation, int64, on the device of ``cost``. Time ``O(n^2 log n)`` for any costs.
    """
    left = np.ascontiguousarray(cost.cpu().numpy())
    rows = columns = np.arange(len(left))
    partner = np.empty(len(left), dtype=np.int64)
    while len(rows):
        i, j = _matched(left)
        partner[rows[i]] = columns[j]
        rows, columns = np.delete(rows, i), np.delete(columns, j)
        left = np.delete(np.delete(left, i, axis=0), j, axis=1)
    return torch.from_numpy(partner).to(cost.device)


def _matched(cost: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the first pairs of the greedy matching, as rows and columns; at least one."""
    k = len(cost)
    number = max(_PER_ROW * k, k * k // _SHARE)
    flat = cost.ravel()
    if number < flat.size:
        # With all that are equal to the last, so that no tie is cut.
        near = np.flatnonzero(flat <= np.partition(flat, number)[number])
    else:
        near = np.arange(flat.size)
    near = near[np.argsort(flat[near], kind="stable")]
    free_row, free_column = [True] * k, [True] * k
    i, j = [], []
    for row, column in zip((near // k).tolist(), (near % k).tolist(), strict=True):
        if free_row[row] and free_column[column]:
            free_row[row] = free_column[column] = False
            i.append(row)
            j.append(column)
    return i, j
