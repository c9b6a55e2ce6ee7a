"""Exact assignment by way of its likely pairs, with a proof that no other pair would help.

Where neighbours compete, as in the plane, a dense solver spends its time on pairs that are never
used. So the problem is solved on the pairs of small reduced cost ``w`` (lapx's ``lapmod``). Then
potentials prove that the permutation ``p`` found is the best of these: ``a_i + h_j <= w_ij``, with
equality at ``j = p_i``. They are shortest paths, ``a_i = min(0, min_j w_ij - w_{q_j j} + a_{q_j})``
with ``q`` the inverse of ``p``. If ``w - a - h`` is below 0 for no pair at all, ``p`` is the best
permutation of the whole problem; otherwise these pairs join, and it is solved again.
"""

import lap
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.couplings.reduced_cost import row_blocks

_ROUNDS = 6
"""Solutions after which the dense solver takes over."""

_LARGEST = 1e3
"""What costs are scaled to: lapmod takes 1e6 for infinity."""

_PROOF = 1e-12
"""Share of the largest cost below which a gain is no gain, also in double precision."""

_PATH = 1e-13
"""The same for a step of a shortest path."""

_STEPS = 100
"""Improvements of the shortest paths after which to give up; about 20 are needed."""


def sparse_permutation(left: Float[Tensor, "n n"], width: float) -> Int[np.ndarray, " n"]:
    """Return the column of each row in the permutation with the least sum of ``left``.

    Exact up to four roundings of the largest cost in the type of ``left``, 1e-12 of it in double
    precision, for each row.

    Args:
        left: Reduced costs on the CPU, contiguous, >= 0; overwritten.
        width: Reduced cost below which a pair is a candidate, > 0. Doubled while the candidates
            hold no permutation.

    Source: Volgenant 1996 for the sparse solver; the proof is linear programming duality.
    """
    left -= left.amin(dim=0)
    largest = float(left.max())
    tolerance = max(4 * torch.finfo(left.dtype).eps, _PROOF) * largest
    # Sums along a path are rounded, in double precision: smaller gains would go round in circles.
    rounding = max(1e-3 * tolerance, _PATH * largest)
    flat = left.numpy()
    each = np.arange(len(left))
    for _ in range(_ROUNDS):
        graph = _Graph(left, width)
        column = graph.solve()
        cost = flat[each, column].astype(np.float64)
        if cost.max() >= width:
            width *= 2
            continue
        a = graph.potential(column, cost, rounding)
        if a is None:
            break
        h = np.empty_like(a)
        h[column] = cost - a
        if _least_without(left, a, h) >= -tolerance:
            return column
    return lap.lapjvh(flat, return_cost=False)[1]


class _Graph:
    """Pairs of small reduced cost, and the diagonal, which makes a permutation possible."""

    def __init__(self, left: Tensor, width: float) -> None:
        self.n = len(left)
        found = []
        for rows in row_blocks(left):
            mask = left[rows] < width
            mask.diagonal(rows.start).fill_(True)
            found.append(np.flatnonzero(mask.numpy()) + rows.start * self.n)
        where = np.concatenate(found)
        self.row, self.column = np.divmod(where, self.n)
        self.weight = left.numpy().reshape(-1)[where].astype(np.float64)
        self.start = np.searchsorted(self.row, np.arange(self.n + 1))

    def solve(self) -> np.ndarray:
        """Return the column of each row."""
        least = min(float(self.weight.min()), 0.0)
        largest = float(self.weight.max()) - least
        scaled = self.weight - least
        if largest > _LARGEST * np.finfo(float).tiny:
            scaled *= _LARGEST / largest
        start, column = self.start.astype(np.int32), self.column.astype(np.int32)
        return lap.lapmod(self.n, scaled, start, column)[1]

    def potential(self, column: np.ndarray, cost: np.ndarray, rounding: float) -> np.ndarray | None:
        """Return the potential of the rows that proves a permutation, None if there is none.

        Policy iteration: each row has a next row on its path or ends it; all paths are summed at
        once by doubling, then every row takes a better next one.

        Args:
            column: Of each row in the permutation.
            cost: Of these pairs.
            rounding: Gains below are none.
        """
        n = self.n
        inverse, paid = np.empty(n, np.int64), np.empty(n)
        inverse[column], paid[column] = np.arange(n), cost
        after, length = inverse[self.column], self.weight - paid[self.column]
        end = np.arange(n)
        a, following, step = np.zeros(n), end.copy(), np.zeros(n)
        for _ in range(_STEPS):
            value = a[after] + length
            best = np.minimum.reduceat(value, self.start[:-1])
            best[best >= a - rounding] = -np.inf
            arc = np.flatnonzero(value <= best[self.row])
            if not len(arc):
                return a
            row = self.row[arc]
            following[row], step[row] = after[arc], length[arc]
            a, last = step.copy(), following.copy()
            for _ in range(n.bit_length()):
                a += a[last]
                last = last[last]
            if np.any(following[last] != last):
                return None  # a cycle of negative length: the permutation is not the best
        return None


def _least_without(left: Tensor, a: np.ndarray, h: np.ndarray) -> float:
    """Take potentials of rows and columns off the costs, in place, and return the least one."""
    row, column = (torch.from_numpy(part).to(left) for part in (a, h))
    least = []
    for rows in row_blocks(left):
        part = left[rows]
        part -= column
        part -= row[rows, None]
        least.append(part.amin())
    return float(torch.stack(least).min())
