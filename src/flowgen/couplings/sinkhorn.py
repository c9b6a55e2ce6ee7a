"""Sinkhorn's algorithm for entropic transport.

``min_P <P, C> + epsilon KL(P | a b)`` with marginals ``a`` and ``b`` has the plan
``P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)``; a sweep sets

    ``f_i = -epsilon log sum_j b_j exp((g_j - C_ij) / epsilon)`` and likewise ``g``,

after which the columns are exact. The sums are taken by :mod:`flowgen.couplings.scaling`: as exact
as in the log domain. ``epsilon`` is lowered from the spread of the cost to its value, and the steps
are lengthened (Thibault et al. 2021, arXiv 1711.01851): both only save sweeps.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.couplings.pair_costs import PairCosts
from flowgen.couplings.plan import Plan
from flowgen.couplings.scaling import LogScaling, Scaling, StoredScaling

_CHECK_EVERY = 10
_SWEEPS_OF_STAGE = 3
_STAGE = 0.5
_SMALL = 2**14
"""Pairs up to which sums in double precision cost nothing."""

_MOST_DOUBLE = 2**24


@runtime_checkable
class EntropicSolver(Protocol):
    """Finds the balanced entropic plan."""

    def __call__(
        self, costs: PairCosts, epsilon: float, *, start: Float[Tensor, " n"] | None = None
    ) -> Plan:
        """Return the plan of strength ``epsilon`` for the cost ``-x . y``.

        Args:
            costs: Of all pairs.
            epsilon: > 0.
            start: A guess of ``f``, ``(n,)``.
        """
        ...


class Sinkhorn:
    """Sinkhorn's algorithm with falling epsilon and lengthened steps.

    Single precision is used where it suffices: double precision for ``epsilon`` below 0.01 standard
    deviations of the cost and tolerances below 1e-5, and for the sums of small sizes.

    Args:
        tolerance: L1 error of the marginals to stop at, > 0; 1e-3 is plenty for pairs.
        max_sweeps: After which to give up, >= 1.
        relaxation: Length of a step, in [1, 2); 1 is the plain algorithm. Where the error grows, a
            round of plain steps is taken.
        stored: Whether a kernel may be stored where the costs are: ten times faster than sums in
            the log domain, with the same result.

    Raises:
        InputError: If a number is out of range.

    Source: Cuturi 2013, arXiv 1306.0895; Schmitzer 2019, arXiv 1610.06519.
    """

    def __init__(
        self,
        tolerance: float = 1e-3,
        max_sweeps: int = 2000,
        *,
        relaxation: float = 1.5,
        stored: bool = True,
    ) -> None:
        if not 0 < tolerance < math.inf:
            raise InputError(f"tolerance must be > 0 and finite, got {tolerance}")
        if max_sweeps < 1:
            raise InputError(f"max_sweeps must be >= 1, got {max_sweeps}")
        if not 1 <= relaxation < 2:
            raise InputError(f"relaxation must be in [1, 2), got {relaxation}")
        self.tolerance = tolerance
        self.max_sweeps = max_sweeps
        self.relaxation = relaxation
        self.stored = stored

    @torch.no_grad()
    def __call__(
        self, costs: PairCosts, epsilon: float, *, start: Float[Tensor, " n"] | None = None
    ) -> Plan:
        """Return the plan, converged or not: see :attr:`Plan.converged`.

        Args:
            costs: Of all pairs.
            epsilon: Strength for the cost ``-x . y``, > 0.
            start: A guess of ``f``, ``(n,)``; then ``epsilon`` is not lowered to its value.

        Raises:
            InputError: If ``epsilon`` is not > 0.
        """
        if not epsilon > 0:
            raise InputError(f"epsilon must be > 0, got {epsilon}")
        costs = self._precise(costs, epsilon)
        f, g = torch.zeros_like(costs.a), torch.zeros_like(costs.b)
        sweeps = 0
        if start is None:
            strength = costs.std
            while strength > epsilon and sweeps + _SWEEPS_OF_STAGE < self.max_sweeps:
                f, g = self._stage(costs, strength, f, g)
                sweeps += _SWEEPS_OF_STAGE
                strength *= _STAGE
        else:
            f = start.to(f)
            g = -epsilon * LogScaling(costs, epsilon, f, g).columns(torch.zeros_like(f))
        return self._solve(costs, epsilon, f, g, sweeps)

    def _solve(self, costs: PairCosts, epsilon: float, f: Tensor, g: Tensor, sweeps: int) -> Plan:
        around = self._around(costs, epsilon, f, g)
        u, v = torch.zeros_like(f), torch.zeros_like(g)
        length, error, best = self.relaxation, math.inf, math.inf
        while True:
            last = sweeps >= self.max_sweeps
            if last or sweeps % _CHECK_EVERY == 0:
                error = self._error(costs, around, u, v)
                if error < self.tolerance or (last and math.isfinite(error)):
                    break
                length = self.relaxation if error <= 2 * best else 1.0
                best = min(best, error)
                if not around.exact(u, v):
                    f, g = _absorbed(costs, epsilon, f, g, u, v)
                    around = self._around(costs, epsilon, f, g)
                    u, v = torch.zeros_like(f), torch.zeros_like(g)
            u, v = around.sweep(u, v, length)
            sweeps += 1
        f, g = f + epsilon * u, g + epsilon * v
        return Plan(costs, f, g, epsilon, sweeps, error, error < self.tolerance)

    def _error(self, costs: PairCosts, around: Scaling, u: Tensor, v: Tensor) -> float:
        error = costs.a @ torch.expm1(u + around.rows(v)).abs()
        if self.relaxation > 1:
            error = error + costs.b @ torch.expm1(v + around.columns(u)).abs()
        return float(error)

    def _stage(
        self, costs: PairCosts, epsilon: float, f: Tensor, g: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return potentials after a few sweeps at one epsilon."""
        around = self._around(costs, epsilon, f, g)
        u, v = torch.zeros_like(f), torch.zeros_like(g)
        for _ in range(_SWEEPS_OF_STAGE):
            u, v = around.sweep(u, v, 1.0)
        if not around.exact(u, v):
            return _absorbed(costs, epsilon, f, g, u, v)
        return f + epsilon * u, g + epsilon * v

    def _around(self, costs: PairCosts, epsilon: float, f: Tensor, g: Tensor) -> Scaling:
        kind = StoredScaling if self.stored and costs.held else LogScaling
        return kind(costs, epsilon, f, g)

    def _precise(self, costs: PairCosts, epsilon: float) -> PairCosts:
        n, m = costs.shape
        fine = epsilon < 0.01 * costs.std and n * m <= _MOST_DOUBLE
        if fine or self.tolerance < 1e-5:
            return costs.double()
        return costs.widened() if n * m <= _SMALL and costs.held else costs


def _absorbed(
    costs: PairCosts, epsilon: float, f: Tensor, g: Tensor, u: Tensor, v: Tensor
) -> tuple[Tensor, Tensor]:
    """Return potentials with the scalings in them, and a sweep in the log domain."""
    if bool(u.isfinite().all() & v.isfinite().all()):
        f, g = f + epsilon * u, g + epsilon * v
    around = LogScaling(costs, epsilon, f, g)
    u = -around.rows(torch.zeros_like(g))
    return f + epsilon * u, g - epsilon * around.columns(u)
