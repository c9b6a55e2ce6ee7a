"""An entropic plan, known by its potentials: ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)``.

``P`` is never held; what is asked of it is summed over blocks of rows. Costs are told for
``|x_0 - x_1|^2``, while ``f``, ``g`` and ``epsilon`` belong to ``C = -x . y`` of centred clouds.
The unregularised dual at ``(min_j (C_ij - g_j), g)`` is a true lower bound of the optimal cost,
however far the potentials are from theirs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.couplings.pair_costs import PairCosts

_SMALLEST = -60.0

_LONG = 4096
"""Columns from which on sums along a row are taken in double precision."""


@dataclass(frozen=True)
class Drawn:
    """A partner for each row, and the law that it was drawn from.

    Args:
        index: Row of ``x_1`` for each row of ``x_0``, ``(n,)``.
        cost: Mean ``|x_0 - x_1|^2`` under that law, whose row sums are exact.
        entropy: Its renormalised entropy, see :attr:`Plan.entropy`.
    """

    index: Int[Tensor, " n"]
    cost: float
    entropy: float


@dataclass(frozen=True)
class Plan:
    """What a solver of entropic transport returns.

    Args:
        costs: Of all pairs, with the weights of both sides.
        f: Potential of the source ``(n,)``, in units of the cost ``-x . y``.
        g: Potential of the data ``(m,)``.
        epsilon: Strength for that cost; that for ``|x_0 - x_1|^2`` is twice it.
        iterations: Sweeps or steps taken.
        error: L1 distance of the marginals from the weights (of the rows where the columns are
            exact); for unbalanced transport that of a fixed point.
        converged: Whether ``error`` is below the tolerance of the solver.
    """

    costs: PairCosts
    f: Float[Tensor, " n"]
    g: Float[Tensor, " m"]
    epsilon: float
    iterations: int
    error: float
    converged: bool

    def log_rows(self) -> Iterator[tuple[slice, Float[Tensor, "k m"]]]:
        """Yield blocks of ``log P``: which rows, and their logarithms ``(k, m)``."""
        column = self.g / self.epsilon + self.costs.b.log()
        row = self.f / self.epsilon + self.costs.a.log()
        for rows, cost in self.costs.rows():
            logs = torch.add(column, cost, alpha=-1 / self.epsilon)
            logs += row[rows, None]
            yield rows, logs

    @property
    def row_marginal(self) -> Float[Tensor, " n"]:
        """``P 1``, ``(n,)``."""
        return torch.cat([logs.exp().sum(dim=1) for _, logs in self.log_rows()])

    @property
    def column_marginal(self) -> Float[Tensor, " m"]:
        """``P^T 1``, ``(m,)``."""
        return torch.stack([logs.exp().sum(dim=0) for _, logs in self.log_rows()]).sum(dim=0)

    @property
    def cost(self) -> float:
        """``sum_ij P_ij |x_0_i - x_1_j|^2``."""
        costs, total = self.costs, 0.0
        for (rows, logs), (_, cost) in zip(self.log_rows(), costs.rows(), strict=True):
            squared = cost + costs.column + costs.row[rows, None]
            total += 2 * float((logs.exp() * squared).sum())
        return total

    @property
    def entropy(self) -> float:
        """``2 H(P) / (H(a) + H(b)) - 1``: 0 for a permutation, 1 for independent pairs.

        Source: Zhang et al. 2025, arXiv 2506.05526.
        """
        parts = [-(logs.exp() * logs).sum() for _, logs in self.log_rows()]
        return self._renormalised(float(torch.stack(parts).sum()))

    @property
    def dual(self) -> float:
        """Value of the balanced entropic dual, for ``|x_0 - x_1|^2``.

        A lower bound of ``<P, |x_0 - x_1|^2> + 2 epsilon KL(P | a b)`` over all plans, which it
        reaches at convergence.
        """
        costs = self.costs
        mass = float(self.row_marginal.sum())
        value = float(costs.a @ self.f + costs.b @ self.g)
        return 2 * (value - self.epsilon * (mass - 1)) + costs.offset

    @property
    def bound(self) -> float:
        """A lower bound of the least cost ``<P, |x_0 - x_1|^2>`` of all balanced plans."""
        costs = self.costs
        f = torch.cat([(cost - self.g).amin(dim=1) for _, cost in costs.rows()])
        return 2 * float(costs.a @ f + costs.b @ self.g) + costs.offset

    def draw(
        self, generator: torch.Generator | None = None, *, rows: Int[Tensor, " k"] | None = None
    ) -> Drawn:
        """Return a partner for each row, drawn from the row of ``P`` by inverting its sums.

        So every row is used once and each column as often as ``P`` says, in expectation. One
        number is drawn for each row, where the Gumbel trick would need one for each pair.

        Args:
            generator: Of the draws.
            rows: Rows that get a partner, in ascending order and possibly several times; all in
                their order if None.
        """
        costs, device = self.costs, self.f.device
        number = costs.shape[0] if rows is None else len(rows)
        where = device if generator is None else generator.device
        u = torch.rand(number, generator=generator, device=where, dtype=torch.float64).to(device)
        # Rounding of the sums of long rows would be seen in the law.
        exact = torch.float64 if costs.shape[1] > _LONG else self.f.dtype
        shift = self.g / self.epsilon + costs.b.log()
        index = torch.empty(number, dtype=torch.int64, device=device)
        cost, entropy = 0.0, _entropy(costs.a)
        first = 0
        for part, block in costs.rows():
            logs = torch.add(shift, block, alpha=-1 / self.epsilon)
            top = logs.amax(dim=1, keepdim=True)
            # Denormal numbers would be slow and are too small to be drawn.
            law = torch.threshold_(logs.sub_(top), _SMALLEST, -torch.inf).exp_()
            sums = law.cumsum(dim=1, dtype=exact)
            total = sums[:, -1].to(law)
            own = (law * block).sum(dim=1) / total
            others = (law @ torch.stack([shift, costs.column], dim=1)) / total[:, None]
            weight = costs.a[part]
            cost += 2 * float(weight @ (own + others[:, 1] + costs.row[part]))
            entropy += float(weight @ (top[:, 0] + total.log() - others[:, 0] + own / self.epsilon))
            last = part.stop if rows is None else int(torch.searchsorted(rows, part.stop))
            mine = slice(first, last)
            if rows is not None:
                sums = sums[rows[mine] - part.start]
            height = u[mine, None].to(exact) * sums[:, -1:]
            index[mine] = torch.searchsorted(sums, height, right=True)[:, 0]
            first = last
        # A number just below 1 may be rounded to the whole sum.
        index.clamp_(max=costs.shape[1] - 1)
        return Drawn(index, cost, self._renormalised(entropy))

    def _renormalised(self, entropy: float) -> float:
        most = _entropy(self.costs.a) + _entropy(self.costs.b)
        return 2 * entropy / most - 1 if most > 0 else 0.0


def _entropy(weights: Tensor) -> float:
    value = -float((weights * weights.log()).sum())
    return value if value > math.ulp(1.0) else 0.0
