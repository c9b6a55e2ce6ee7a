"""Optimal transport that is safe with any condition: moving a row to a foreign condition costs.

Row ``i`` of a batch starts as ``(x_0, x_1, c)_i``. An assignment of ``x_1_j``, which brings its own
``c_j``, to ``x_0_i`` costs ``|x_0_i - x_1_j|^2 + w dist(c_i, c_j)``, where ``c_i`` is the condition
that the row had before: noise may only move among rows whose conditions are close. ``w = 0`` is
plain transport, after which the noise tells the condition; ``w = inf`` changes no condition.

The weight follows from a number without unit: ``r(w)``, the share of pairs ``(i, j)`` that cost no
more than ``(i, i)``, 1/2 for plain transport and falling with ``w``. The pair ``(i, j)`` counts up
to ``w_ij = (|x_0_i - x_1_i|^2 - |x_0_i - x_1_j|^2) / dist(c_i, c_j)``, so the weight with a given
ratio is a quantile of the ``w_ij``: exact in every batch, with no search and no memory.
"""

import time

import lap
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError, Pair, flatten
from flowgen.couplings.condition_distance import ConditionDistance, CosineDistance
from flowgen.couplings.figures import with_figures
from flowgen.couplings.optimality import dual_gap, share_saved


class ConditionAssignment:
    """Permutes ``x_0`` for least ``|x_0 - x_1|^2`` plus a price for a foreign condition.

    With labels alone, where ``ratio`` cannot be reached because too many rows share a label, no row
    changes its label: that is :class:`ClassAssignment`, which is faster. Solved on the CPU from any
    device.

    Args:
        ratio: Share of partners that are not dearer than a row's own, in (0, 1/2), and above 1 /
            batch size: larger is nearer to plain transport, smaller keeps the noise more
            independent of the condition.
        distance: Of conditions; the cosine distance if None.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: True.
        condition_safe: True, to a degree that ``ratio`` sets: see ``flowgen.metrics.label_probe``.

    Raises:
        InputError: If ``ratio`` is not in (0, 1/2).

    Source: Cheng and Schwing 2025, arXiv 2503.10636 (C2OT, continuous conditions), who search the
        weight by bisection.
    """

    score_valid: bool = False
    exact_marginals: bool = True
    condition_safe: bool = True

    def __init__(self, ratio: float = 0.01, distance: ConditionDistance | None = None) -> None:
        if not 0 < ratio < 0.5:
            raise InputError(f"ratio must be in (0, 0.5), where 0.5 is no price, got {ratio}")
        self.ratio = ratio
        self.distance: ConditionDistance = CosineDistance() if distance is None else distance

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the pairs of least total cost; draws nothing.

        Args:
            pair: Unweighted, each side ``(b, *d)``, with at least one condition; ``x_1`` and its
                ``cond`` stay in place.
            generator: Unused: the assignment is deterministic.

        Returns:
            The coupled pair, with the usual stats and ``coupling/weight`` (of the condition, in
            squared distance per dimension), ``coupling/ratio`` (as reached) and
            ``coupling/moved`` (mean distance of a row's condition from the one it had).
            ``coupling/optimality`` is that of the cost with the price of foreign conditions, by
            the proof of :func:`flowgen.couplings.optimality.dual_gap`; the distances alone, which
            ``coupling/saved`` tells of, could be less.

        Raises:
            InputError: If there is no condition, a weight of pairs, a value that is not finite, or
                no more than ``1 / ratio`` rows.
        """
        del generator
        if not pair.cond:
            raise InputError(
                "ConditionAssignment needs a condition; without one use coupling=exact_assignment"
            )
        if pair.weight is not None:
            raise InputError(
                "ConditionAssignment got pairs with weights: permuting x_0 would weigh the source "
                "by where it was sent; weigh the pairs after the coupling"
            )
        n = len(pair)
        if n > 1 and self.ratio * n <= 1:
            raise InputError(
                f"ratio={self.ratio} of {n} partners is a row's own alone: take ratio above "
                f"{1 / n:.3g}, or pair more than {1 / self.ratio:.0f} rows together"
            )
        start = time.perf_counter()
        cost = _squared_distances(pair.x_0, pair.x_1)
        foreign = self.distance(pair.cond).to("cpu", torch.float64)
        if not bool(cost.isfinite().all()):
            raise InputError("x_0 and x_1 must be finite with finite squares")
        weight = ratio_weight(cost, foreign, self.ratio) if n > 1 else 0.0
        total = cost + weight * foreign
        reached = float((total <= total.diagonal()[:, None]).double().mean())
        chosen = torch.from_numpy(lap.lapjvh(total.mT.numpy(), return_cost=False)[1]).long()
        elapsed = 1e3 * (time.perf_counter() - start)
        dims = pair.x_0[0].numel()
        x_0 = pair.x_0[chosen.to(pair.x_0.device)]
        extra = {
            "coupling/weight": weight / dims,
            "coupling/ratio": reached,
            "coupling/moved": float(foreign[chosen, torch.arange(n)].mean()),
            "coupling/optimality": _optimality(total, chosen),
        }
        return with_figures(pair, Pair(x_0, pair.x_1, pair.cond), ms=elapsed, extra=extra)


def ratio_weight(cost: Float[Tensor, "n n"], foreign: Float[Tensor, "n n"], ratio: float) -> float:
    """Return the least ``w`` with ``mean_ij 1[cost_ij + w foreign_ij <= cost_ii] <= ratio``.

    Where rows of the same condition alone exceed ``ratio``, no weight is enough; then one is
    returned that outweighs every difference of costs.

    Args:
        cost: Of row ``i`` of the source with row ``j`` of the data.
        foreign: Distance of their conditions, >= 0, zero on the diagonal.
        ratio: In (1 / n, 1/2).
    """
    n = len(cost)
    gain = cost.diagonal()[:, None] - cost
    # A pair of one condition that gains counts at every weight, one that loses at none.
    limit = torch.where(foreign > 0, gain / foreign, torch.inf)
    limit = torch.where(gain >= 0, limit, -torch.inf).fill_diagonal_(torch.inf)
    rank = n * n - int(ratio * n * n)
    # One more than `ratio` allows still counts at this limit, so the weight lies just above it.
    found = float(limit.flatten().kthvalue(rank).values)
    if found < 0:
        return 0.0
    if found == torch.inf:
        apart = foreign[foreign > 0]
        return 0.0 if len(apart) == 0 else n * float((cost.max() - cost.min()) / apart.min())
    return found * (1 + 1e-9)


def _optimality(total: Float[Tensor, "n n"], chosen: Int[Tensor, " n"]) -> float:
    """Return the share of what the total cost could lose; a row's own condition has no price."""
    cost = total[chosen, torch.arange(len(total))].mean()
    return float(share_saved(total.diagonal().mean(), cost, dual_gap(total.mT, chosen)))


def _squared_distances(x_0: Tensor, x_1: Tensor) -> Float[Tensor, "n n"]:
    """Return ``|x_0_i - x_1_j|^2`` on the CPU in float64."""
    wide = torch.promote_types(x_1.dtype, torch.float32)
    y = flatten(x_1).to(wide)
    # A common shift changes no distance, and what is centred loses fewer digits.
    centre = y.mean(dim=0)
    x, y = flatten(x_0).to(wide) - centre, y - centre
    with torch.autocast(x.device.type, enabled=False):
        product = x @ y.mT
    square = [v.square().sum(dim=1).to("cpu", torch.float64) for v in (x, y)]
    return square[0][:, None] + square[1][None] - 2 * product.to("cpu", torch.float64)
