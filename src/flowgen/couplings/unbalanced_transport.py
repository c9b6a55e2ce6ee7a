"""Pairs drawn from an unbalanced plan: rows that are far from the other side come less often.

Where balanced transport must pair every row, here not to pair one has a price; see
:mod:`flowgen.couplings.unbalanced_plan`. The model learns the flow between the two marginals of the
plan. With the marginal of the source kept these are the source and a reweighted data distribution,
which is then what sampling returns; with both free, sampling starts from noise that the model was
not trained on alike.
"""

import logging
import math
import time

import torch

from flowgen.core import InputError, Pair
from flowgen.couplings.drawing import check_free, resampled
from flowgen.couplings.epsilon import Epsilon, epsilon_of
from flowgen.couplings.figures import with_figures
from flowgen.couplings.pair_costs import MAX_ELEMENTS, PairCosts
from flowgen.couplings.plan import Plan
from flowgen.couplings.squared_costs import check_max_elements
from flowgen.couplings.tilt import effective_share
from flowgen.couplings.unbalanced_plan import optimality_of, unbalanced_plan

log = logging.getLogger(__name__)


class UnbalancedTransport:
    """Draws pairs as often as the batch's unbalanced entropic plan says; the batch keeps its size.

    Args:
        rho_source: Price of another marginal of the source, in standard deviations of the cost
            ``-x . y``, > 0; None keeps it, so that each noise is used once, in place.
        rho_data: Price of another marginal of the data, likewise. Smaller drops more; None keeps
            it in expectation. Not both are None: that is :class:`Entropic`.
        epsilon: Strength of the entropy, in the same unit, > 0, or an object that says it in
            another, as in :class:`Entropic`.
        tolerance: Relative change of the plan in a sweep to stop at, > 0.
        max_sweeps: After which to give up, >= 1.
        max_elements: Batches of up to so many pairs of rows are solved with all costs in memory;
            larger ones block by block.

    Attributes:
        score_valid: False: given the data, the source is no longer Gaussian.
        exact_marginals: False: rows far from the other side come less often.
        condition_safe: False, hence a pair with a condition is refused.

    Raises:
        InputError: If a number is out of range or both prices are None.

    Source: Chizat et al. 2018, arXiv 1607.05816; for flow matching, with both sides free, Eyring et
        al. 2024, arXiv 2311.15100.
    """

    score_valid: bool = False
    exact_marginals: bool = False
    condition_safe: bool = False

    def __init__(
        self,
        rho_source: float | None,
        rho_data: float | None,
        epsilon: float | Epsilon = 0.1,
        *,
        tolerance: float = 1e-3,
        max_sweeps: int = 2000,
        max_elements: int = MAX_ELEMENTS,
    ) -> None:
        for name, value in (("rho_source", rho_source), ("rho_data", rho_data)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be > 0 and finite, or null, got {value}")
        if rho_source is None and rho_data is None:
            raise InputError(
                "rho_source and rho_data are both null, which keeps both marginals: "
                "use coupling=entropic, or give one of them a price"
            )
        if not 0 < tolerance < math.inf:
            raise InputError(f"tolerance must be > 0 and finite, got {tolerance}")
        if max_sweeps < 1:
            raise InputError(f"max_sweeps must be >= 1, got {max_sweeps}")
        check_max_elements(max_elements)
        self.rho_source = rho_source
        self.rho_data = rho_data
        self.epsilon = epsilon_of(epsilon)
        self.tolerance = tolerance
        self.max_sweeps = max_sweeps
        self.max_elements = max_elements
        self._warned = False

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the drawn pairs.

        Args:
            pair: Unconditional and unweighted, each side ``(b, *d)``.
            generator: Of the draws.

        Returns:
            The pairs, with the usual stats and ``coupling/mass`` (of the plan; 1 if balanced),
            ``coupling/ess_source`` and ``coupling/ess_data`` (effective share of the rows of
            either side, 1 if all come equally often), ``coupling/epsilon`` (for ``|x - y|^2``),
            ``coupling/iterations`` and ``coupling/converged`` (1 or 0). ``coupling/optimality``
            is that of the plan for its own problem, prices and entropy counted, against its dual
            value.

        Raises:
            InputError: If the pair has a condition or weights, or its values are not finite.
        """
        check_free(pair, type(self).__name__)
        start = time.perf_counter()
        plan = self.plan(pair)
        mass, data_mass = plan.row_marginal, plan.column_marginal
        rows = None
        if self.rho_source is not None:
            rows = resampled(mass, len(pair), generator)
        index = plan.draw(generator, rows=rows).index
        x_0 = pair.x_0 if rows is None else pair.x_0[rows]
        after = Pair(x_0, pair.x_1[index])
        elapsed = 1e3 * (time.perf_counter() - start)
        self._tell(plan)
        extra = {
            "coupling/mass": mass.sum(),
            "coupling/ess_source": effective_share(mass),
            "coupling/ess_data": effective_share(data_mass),
            "coupling/epsilon": 2 * plan.epsilon,
            "coupling/iterations": float(plan.iterations),
            "coupling/converged": float(plan.converged),
            "coupling/optimality": optimality_of(plan, self._prices(plan.costs), mass, data_mass),
        }
        return with_figures(pair, after, ms=elapsed, extra=extra)

    def plan(self, pair: Pair) -> Plan:
        """Return the plan that the pairs are drawn from."""
        costs = PairCosts(pair.x_0, pair.x_1, max_elements=self.max_elements)
        return unbalanced_plan(
            costs,
            self.epsilon(costs.std),
            self._prices(costs),
            tolerance=self.tolerance,
            max_sweeps=self.max_sweeps,
        )

    def _prices(self, costs: PairCosts) -> tuple[float, float]:
        """Return the prices of source and data in units of the cost."""
        # Without spread all pairs cost the same.
        unit = costs.std if costs.std > 0 else 1.0
        source, data = (
            math.inf if rho is None else rho * unit for rho in (self.rho_source, self.rho_data)
        )
        return source, data

    def _tell(self, plan: Plan) -> None:
        if plan.converged or self._warned:
            return
        self._warned = True
        log.warning(
            "the unbalanced plan still changes by %.2g in a sweep after %d sweeps: pairs are drawn "
            "from what was reached; take a larger epsilon, a smaller rho or more sweeps (told "
            "once, see coupling/converged)",
            plan.error,
            plan.iterations,
        )
