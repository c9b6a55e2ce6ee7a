"""Pairs drawn from the entropic plan of a batch: between random ones and an assignment.

The plan minimises ``<P, |x_0 - x_1|^2> + epsilon KL(P | independent)``. Large ``epsilon`` leaves
pairs random, small ones near to the assignment; in between, noise has several likely partners. Both
marginals of the plan are those of the batch, so for any ``epsilon`` the flow ends at the data.
With ``epsilon = 2 sigma^2`` the pairs are the ends of the Schroedinger bridge of scale ``sigma``.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgen.core import InputError, Pair
from flowgen.couplings.drawing import check_free
from flowgen.couplings.epsilon import Epsilon, epsilon_of
from flowgen.couplings.figures import cost_of, with_figures
from flowgen.couplings.pair_costs import MAX_ELEMENTS, PairCosts
from flowgen.couplings.plan import Plan
from flowgen.couplings.scaling import potential_at
from flowgen.couplings.sinkhorn import EntropicSolver, Sinkhorn

log = logging.getLogger(__name__)

_ROUNDING = 1e-6
"""Differences of costs below this share of a cost are rounding."""


class Entropic:
    """Gives each row of ``x_0`` a partner drawn from its row of the batch's entropic plan.

    Every noise is used once; a data row is used once in expectation, so in a batch some come twice
    and some not at all.

    Args:
        epsilon: In standard deviations of the cost ``-x . y``, or an object that says it in another
            unit: :class:`AbsoluteEpsilon` for the cost ``|x - y|^2``, :class:`BridgeEpsilon`.
        solver: Of the plan; ``Sinkhorn()`` if None.
        max_elements: Batches of up to so many pairs of rows are solved with all costs in memory;
            larger ones block by block.
        warm_start: Whether to start from the potential of the batch before, evaluated at the new
            noise. It keeps that batch in memory and in the checkpoint.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: True: of the noise in every batch, of the data in expectation, up to the
            tolerance of the solver.
        condition_safe: False, hence a pair with a condition is refused.

    Raises:
        InputError: If a number is out of range.

    Source: Tong et al. 2024, arXiv 2302.00482; Zhang et al. 2025, arXiv 2506.05526, for the unit of
        ``epsilon``, the entropy and the warm start.
    """

    score_valid: bool = False
    exact_marginals: bool = True
    condition_safe: bool = False

    def __init__(
        self,
        epsilon: float | Epsilon = 0.1,
        *,
        solver: EntropicSolver | None = None,
        max_elements: int = MAX_ELEMENTS,
        warm_start: bool = False,
    ) -> None:
        if max_elements < 1:
            raise InputError(f"max_elements must be >= 1, got {max_elements}")
        self.epsilon = epsilon_of(epsilon)
        self.solver: EntropicSolver = Sinkhorn() if solver is None else solver
        self.max_elements = max_elements
        self.warm_start = warm_start
        self._before: tuple[Tensor, Tensor] | None = None
        self._warned = False

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the drawn pairs.

        Args:
            pair: Unconditional and unweighted, each side ``(b, *d)``; ``x_0`` stays in place.
            generator: Of the draws.

        Returns:
            The pairs, with the usual stats and ``coupling/converged`` (1 or 0),
            ``coupling/iterations``, ``coupling/marginal_error`` (L1), ``coupling/epsilon`` (for
            ``|x - y|^2``) and ``coupling/entropy`` (0 for an assignment, 1 for random pairs).
            ``coupling/optimality`` is that of the plan, against its dual bound.

        Raises:
            InputError: If the pair has a condition or weights, or its values are not finite.
        """
        check_free(pair, type(self).__name__)
        start = time.perf_counter()
        costs = PairCosts(pair.x_0, pair.x_1, max_elements=self.max_elements)
        epsilon = self.epsilon(costs.std)
        plan = self.solver(costs, epsilon, start=self._guess(pair, epsilon))
        drawn = plan.draw(generator)
        after = Pair(pair.x_0, pair.x_1[drawn.index])
        elapsed = 1e3 * (time.perf_counter() - start)
        self._tell(plan)
        if self.warm_start:
            self._before = (plan.costs.y.to(costs.y), plan.g.to(costs.y))
        dims = pair.x_0[0].numel()
        given, bound = float(cost_of(pair)), plan.bound / dims
        gap = max(given - bound, _ROUNDING * given)
        extra = {
            "coupling/converged": float(plan.converged),
            "coupling/iterations": float(plan.iterations),
            "coupling/marginal_error": plan.error,
            "coupling/epsilon": 2 * epsilon,
            "coupling/entropy": drawn.entropy,
            # Of the plan: the drawn pairs scatter around it.
            "coupling/optimality": 1 - (drawn.cost / dims - bound) / gap if gap > 0 else 1.0,
        }
        return with_figures(pair, after, ms=elapsed, extra=extra)

    def state_dict(self) -> dict[str, Any]:
        """Return what a warm start needs: the data of the batch before and its potential."""
        if self._before is None:
            return {}
        y, g = self._before
        return {"y": y, "g": g}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            InputError: If it is not the state of such a coupling.
        """
        if set(state) not in ({"y", "g"}, set()):
            raise InputError(f"the state of Entropic has y and g, got {sorted(state)}")
        self._before = (state["y"], state["g"]) if state else None

    def _guess(self, pair: Pair, epsilon: float) -> Tensor | None:
        """Return the potential of the source, from the batch before."""
        if not self.warm_start or self._before is None:
            return None
        y, g = (part.to(pair.x_0.device) for part in self._before)
        if y.shape[1] != pair.x_0[0].numel():
            return None
        return potential_at(pair.x_0, y, g, epsilon, max_elements=self.max_elements)

    def _tell(self, plan: Plan) -> None:
        if plan.converged or self._warned:
            return
        self._warned = True
        log.warning(
            "the entropic plan has not converged after %d iterations (marginal error %.2g): "
            "pairs are drawn from what was reached, so data rows come too often or too seldom by "
            "that much; take a larger epsilon or more sweeps (told once, see coupling/converged)",
            plan.iterations,
            plan.error,
        )
