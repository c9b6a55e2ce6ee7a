"""Entropic transport with a price for other marginals, one for each side.

``min_P <P, c> + epsilon KL(P | a b) + rho_0 KL(P 1 | a) + rho_1 KL(P^T 1 | b)`` with the cost
``c = |x_0 - x_1|^2 / 2`` and ``KL(p | q) = sum p log(p / q) - p + q`` has the plan
``P_ij = a_i b_j exp((F_i + G_j - c_ij) / epsilon)``; a sweep sets, in the log domain,

    ``F_i = -epsilon s log sum_j b_j exp((G_j - c_ij) / epsilon)``, ``1 / s = 1 + epsilon / rho_0``,

and likewise ``G`` (Chizat et al. 2018, arXiv 1607.05816). A constant added to ``F`` and taken off
``G`` leaves the plan as it is, but sweeps find it slowly where ``rho`` is large; it has a closed
form and is set after each (Sejourne et al. 2022, arXiv 2201.00730). ``rho = inf`` keeps a marginal.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.couplings.pair_costs import PairCosts
from flowgen.couplings.plan import Plan
from flowgen.couplings.scaling import LogScaling, Scaling, StoredScaling

_BLOCK = 10
"""Sweeps around one stored kernel, after which the error is looked at."""


@torch.no_grad()
def unbalanced_plan(
    costs: PairCosts,
    epsilon: float,
    rho: tuple[float, float],
    *,
    tolerance: float,
    max_sweeps: int,
) -> Plan:
    """Return the plan, converged or not: see :attr:`Plan.converged`; in double precision.

    Its ``error`` is the largest change of a potential in the last sweep, in units of ``epsilon``:
    the relative change of an entry of the plan.

    Args:
        costs: Of all pairs.
        epsilon: Strength for the cost ``|x - y|^2 / 2``, > 0.
        rho: Prices of other marginals of source and data, for the same cost, > 0; ``inf`` keeps
            the marginal. Not both are ``inf``.
        tolerance: Error to stop at, > 0.
        max_sweeps: After which to give up, >= 1.

    Raises:
        InputError: If ``epsilon`` or a price is out of range.
    """
    if not 0 < epsilon < math.inf:
        raise InputError(f"epsilon must be > 0 and finite, got {epsilon}")
    if not min(rho) > 0 or math.inf == rho[0] == rho[1]:
        raise InputError(f"rho must be two numbers > 0, not both inf, got {rho}")
    costs = costs.double()
    sweeps = _Sweeps(costs, epsilon, rho)
    f, g = torch.zeros_like(costs.a), torch.zeros_like(costs.b)
    # The first sweep may start far from any plan, where a kernel would be all zeros.
    f, g, error = sweeps.run(f, g, 1, stored=False)
    done = 1
    while error >= tolerance and done < max_sweeps:
        number = min(_BLOCK, max_sweeps - done)
        f, g, error = sweeps.run(f, g, number, stored=costs.held)
        done += number
    f, g = f - costs.row, g - costs.column
    return Plan(costs, f, g, epsilon, done, error, error < tolerance)


@torch.no_grad()
def optimality_of(
    plan: Plan,
    rho: tuple[float, float],
    rows: Float[Tensor, " n"],
    columns: Float[Tensor, " m"],
) -> float:
    """Return the share of what the objective could lose from independent pairs that it lost.

    The objective above, prices and entropy with the rest, at the plan less the dual value

        ``rho_0 sum_i a_i (1 - exp(-F_i / rho_0)) + (same of G) + epsilon (1 - sum P)``

    of its potentials is, for each side, ``sum_i p_i F_i + rho_0 (KL(p | a) + sum_i a_i (exp(-F_i /
    rho_0) - 1))`` with the marginal ``p``, which is >= 0 and needs no pairs. Of a side that is kept
    it is ``sum_i (p_i - a_i) F_i``, 0 where the marginal is exact.

    Args:
        plan: Of :func:`unbalanced_plan`, converged or not.
        rho: The prices it was made with.
        rows: Its marginal of the source, see :attr:`Plan.row_marginal`.
        columns: Its marginal of the data.
    """
    costs = plan.costs
    gap, value = 0.0, plan.epsilon * (1 - float(rows.sum()))
    for price, weight, mass, potential in zip(
        rho,
        (costs.a, costs.b),
        (rows, columns),
        (plan.f + costs.row, plan.g + costs.column),
        strict=True,
    ):
        linear = mass @ potential
        if price == math.inf:
            value += float(linear)
            # Its sign is that of the potential, and its size that of the error.
            gap += abs(float(linear - weight @ potential))
            continue
        divergence = (torch.xlogy(mass, mass / weight) - mass + weight).sum()
        value += float(linear + price * divergence)
        conjugate = weight @ torch.expm1(-potential / price)
        gap += float(linear + price * (divergence + conjugate))
    given = costs.offset / 2
    could = given - value + gap
    return 1 - max(gap, 0.0) / could if could > 0 else 1.0


class _Sweeps:
    """Sweeps on the potentials ``F`` and ``G``."""

    def __init__(self, costs: PairCosts, epsilon: float, rho: tuple[float, float]) -> None:
        self.costs = costs
        self.epsilon = epsilon
        self.rho = rho
        self.shares = tuple(1.0 if r == math.inf else r / (r + epsilon) for r in rho)
        self.log_a, self.log_b = costs.a.log(), costs.b.log()

    def run(
        self, f: Tensor, g: Tensor, number: int, *, stored: bool
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"], float]:
        """Return the potentials after so many sweeps, and the change in the last."""
        kind = StoredScaling if stored else LogScaling
        # Scalings work on -x . y, whose potentials lack the terms of one side alone.
        centre = f - self.costs.row, g - self.costs.column
        scaling: Scaling = kind(self.costs, self.epsilon, *centre)
        u, v = torch.zeros_like(f), torch.zeros_like(g)
        new_f, new_g, change = f, g, torch.zeros_like(f[:1])
        for _ in range(number):
            old_f, old_g = new_f, new_g
            new_f = self.shares[0] * (f - self.epsilon * scaling.rows(v))
            u = (new_f - f) / self.epsilon
            new_g = self.shares[1] * (g - self.epsilon * scaling.columns(u))
            constant = self._constant(new_f, new_g)
            new_f, new_g = new_f + constant, new_g - constant
            u, v = (new_f - f) / self.epsilon, (new_g - g) / self.epsilon
            change = torch.maximum((new_f - old_f).abs().amax(), (new_g - old_g).abs().amax())
        error = float(change) / self.epsilon
        if stored and not (scaling.exact(u, v) and math.isfinite(error)):
            return self.run(f, g, number, stored=False)
        return new_f, new_g, error

    def _constant(self, f: Tensor, g: Tensor) -> Tensor:
        """Return what is best added to ``F`` and taken off ``G``."""
        rho_0, rho_1 = self.rho
        logs = (self.log_a - f / rho_0).logsumexp(0) - (self.log_b - g / rho_1).logsumexp(0)
        return logs / (1 / rho_0 + 1 / rho_1)
