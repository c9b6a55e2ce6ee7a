"""Pairs drawn from a plan that gives each sample of the batch few possible noises.

Between an assignment, with one noise for each sample, and entropic transport, with all of them; see
:mod:`flowgen.couplings.sparse_plan`. Both marginals of the plan are those of the batch.
"""

import logging
import math
import time

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError, Pair
from flowgen.couplings.drawing import check_free
from flowgen.couplings.figures import cost_of, with_figures
from flowgen.couplings.pair_costs import MAX_ELEMENTS, PairCosts
from flowgen.couplings.sparse_plan import SparsePlan, rounded, sparse_plan
from flowgen.couplings.squared_costs import check_held, check_max_elements

log = logging.getLogger(__name__)

_ROUNDING = 1e-6
"""Differences of costs below this share of a cost are rounding."""


class SparseTransport:
    """Gives each row of ``x_0`` a partner from its row of a plan with few entries a column.

    Every noise is used once; a data row is used once in expectation. Solved on the CPU from any
    device, in double precision; a step of the solver passes over all costs.

    Args:
        gamma: Strength of the quadratic term in standard deviations of the cost ``-x . y``, > 0:
            larger spreads a sample over more noises, as far as ``max_nonzeros`` allows.
        max_nonzeros: Noises that a sample may have, >= 1. 1 is :class:`ExactAssignment`, found
            more slowly.
        tolerance: L1 error of the row sums to stop at, > 0.
        max_iterations: Steps of L-BFGS after which to give up, >= 1.
        max_elements: Pairs of rows up to which all costs are held in memory, >= 1.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: True: of the noise in every batch, of the data in expectation.
        condition_safe: False, hence a pair with a condition is refused.

    Raises:
        InputError: If a number is out of range.

    Source: Liu et al. 2023, arXiv 2209.15466; the use for pairs is ours.
    """

    score_valid: bool = False
    exact_marginals: bool = True
    condition_safe: bool = False

    def __init__(
        self,
        gamma: float = 0.1,
        max_nonzeros: int = 16,
        *,
        tolerance: float = 1e-2,
        max_iterations: int = 200,
        max_elements: int = MAX_ELEMENTS,
    ) -> None:
        for name, value in (("gamma", gamma), ("tolerance", tolerance)):
            if not 0 < value < math.inf:
                raise InputError(f"{name} must be > 0 and finite, got {value}")
        for name, value in (("max_nonzeros", max_nonzeros), ("max_iterations", max_iterations)):
            if value < 1:
                raise InputError(f"{name} must be >= 1, got {value}")
        check_max_elements(max_elements)
        self.gamma = gamma
        self.max_nonzeros = max_nonzeros
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.max_elements = max_elements
        self._warned = False

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the drawn pairs.

        Args:
            pair: Unconditional and unweighted, each side ``(b, *d)``; ``x_0`` stays in place.
            generator: Of the draws.

        Returns:
            The pairs, with the usual stats and ``coupling/marginal_error`` (L1, of the rows,
            before rounding), ``coupling/iterations`` and ``coupling/nonzeros`` (noises of a sample
            before rounding, on average). ``coupling/optimality`` is that of the plan, against a
            dual bound.

        Raises:
            InputError: If the pair has a condition or weights, has too many rows, or its values
                are not finite.
        """
        name = type(self).__name__
        check_free(pair, name)
        n = len(pair)
        check_held(n, name, self.max_elements)
        start = time.perf_counter()
        costs = PairCosts(pair.x_0, pair.x_1, max_elements=self.max_elements).double()
        # Without spread all plans cost the same.
        spread = costs.std if costs.std > 0 else 1.0
        found = sparse_plan(
            costs.matrix / spread,
            self.gamma,
            min(self.max_nonzeros, n),
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        plan = rounded(found.weights, costs.a.cpu(), costs.b.cpu())
        index = _drawn(plan, generator).to(pair.x_1.device)
        after = Pair(pair.x_0, pair.x_1[index])
        elapsed = 1e3 * (time.perf_counter() - start)
        self._tell(found)
        dims = pair.x_0[0].numel()
        cost, bound = _cost_and_bound(plan, found.alpha * spread, costs)
        given = float(cost_of(pair))
        gap = max(given - bound / dims, _ROUNDING * given)
        extra = {
            "coupling/marginal_error": found.error,
            "coupling/iterations": float(found.iterations),
            "coupling/nonzeros": float((found.weights > 0).sum()) / n,
            # Of the plan: the drawn pairs scatter around it.
            "coupling/optimality": 1 - (cost - bound) / dims / gap if gap > 0 else 1.0,
        }
        return with_figures(pair, after, ms=elapsed, extra=extra)

    def _tell(self, found: SparsePlan) -> None:
        if found.error <= self.tolerance or self._warned:
            return
        self._warned = True
        log.warning(
            "the sparse plan misses the row sums by %.2g (L1) after %d iterations and was rounded "
            "to exact ones, which gives some samples more than max_nonzeros=%d noises; a larger "
            "max_nonzeros or a smaller gamma helps (told once, see coupling/marginal_error)",
            found.error,
            found.iterations,
            self.max_nonzeros,
        )


def _drawn(plan: Float[Tensor, "n m"], generator: torch.Generator | None) -> Int[Tensor, " n"]:
    """Return a column for each row, drawn from that row, by inverting its sums."""
    where = plan.device if generator is None else generator.device
    u = torch.rand(len(plan), generator=generator, device=where, dtype=torch.float64)
    sums = plan.cumsum(dim=1)
    heights = u.to(plan.device)[:, None] * sums[:, -1:]
    # A number just below 1 may be rounded to the whole sum.
    return torch.searchsorted(sums, heights, right=True)[:, 0].clamp(max=plan.shape[1] - 1)


def _cost_and_bound(
    plan: Float[Tensor, "n n"], alpha: Float[Tensor, " n"], costs: PairCosts
) -> tuple[float, float]:
    """Return mean ``|x_0 - x_1|^2`` under ``plan`` and a lower bound of it for all plans."""
    matrix = costs.matrix.cpu()
    cost = (plan * matrix).sum()
    bound = alpha.mean() + (matrix - alpha[:, None]).amin(dim=0).mean()
    return 2 * float(cost) + costs.offset, 2 * float(bound) + costs.offset
