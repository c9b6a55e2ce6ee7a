"""The Monge gap: how far a map is from carrying its inputs at the least cost.

``M(T) = mean c(x_i, T x_i) - W(x, T x)`` is 0 if and only if no other way of sending the ``x_i`` to
the same end points is cheaper, and above 0 otherwise. With the squared cost it is convex in the
ends. ``W`` is taken entropic, for a gradient: ``W_e = min_P <P, C> + e KL(P | independent)``. That
``W_e`` is up to ``e log n`` above ``W``, as a permutation has ``KL = log n``, so the plain
difference may be negative; with ``e log n`` added it may not, and

    ``M(T) <= mean c(x_i, T x_i) - W_e(x, T x) + e log n <= M(T) + e log n``.

(The form with ``-e H(P)`` in place of the KL term gives ``2 e log n`` more than the plain
difference; all of them have one gradient.) The gradient is that of the costs under the plan
held fast (Danskin), so nothing is differentiated through the iterations.

The Sinkhorn divergence ``S(x, y) = W_e(x, y) - W_e(x, x) / 2 - W_e(y, y) / 2`` is 0 if and only if
both sets are the same, and serves as the loss that fits the ends to the data.

Sources: Uscidda and Cuturi 2023, arXiv 2302.04953, definition 3.1 and section 3; Feydy et al. 2019,
arXiv 1810.08278 (the divergence).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, flatten
from flowgen.couplings.epsilon import AbsoluteEpsilon, Epsilon, epsilon_of
from flowgen.couplings.ground_costs import GroundCost, SquaredEuclidean
from flowgen.couplings.plan import Plan
from flowgen.couplings.scaling import LogScaling
from flowgen.couplings.sinkhorn import Sinkhorn

_FINE = 1e-5
"""Tolerances below need double precision."""


def entropic_cost(
    x: Float[Tensor, "n *d"],
    y: Float[Tensor, "m *e"],
    *,
    epsilon: float | Epsilon = 0.1,
    cost: GroundCost | None = None,
    solver: Sinkhorn | None = None,
) -> Float[Tensor, ""]:
    """Return ``min_P <P, C> + e KL(P | independent)`` of two sets, differentiable in both.

    Args:
        x: Points ``(n, *d)``, with equal weights.
        y: Points of the same shape, ``(m, *d)``.
        epsilon: ``e / 2`` in standard deviations of ``C / 2`` (its means of rows and columns taken
            off), or an object such as :class:`AbsoluteEpsilon`, which says ``e``. The gradient
            takes it for a constant.
        cost: Of a pair; :class:`SquaredEuclidean` if None.
        solver: Of the plan; ``Sinkhorn()`` if None. Its tolerance is that of the value.

    Raises:
        InputError: If shapes differ, a value is not finite or ``epsilon`` is out of range.
    """
    cost, solver = cost or SquaredEuclidean(), solver or Sinkhorn()
    x, y = _points(x, y)
    strength = _strength(x, y, epsilon, cost)
    return _entropic(x, y, strength, cost, solver)


def monge_gap(
    x: Float[Tensor, "n *d"],
    mapped: Float[Tensor, "m *e"],
    *,
    epsilon: float | Epsilon = 0.1,
    cost: GroundCost | None = None,
    solver: Sinkhorn | None = None,
) -> Float[Tensor, ""]:
    """Return the entropic Monge gap of a map, between the exact gap and ``e log n`` above it.

    Args:
        x: Inputs ``(n, *d)``.
        mapped: Where the map takes each, ``(n, *d)``.
        epsilon: As in :func:`entropic_cost`; the bias is at most ``e log n``.
        cost: Of a pair; :class:`SquaredEuclidean` if None.
        solver: Of the plan; ``Sinkhorn()`` if None.

    Raises:
        InputError: If shapes differ, a value is not finite or ``epsilon`` is out of range.
    """
    cost, solver = cost or SquaredEuclidean(), solver or Sinkhorn()
    if x.shape != mapped.shape:
        raise InputError(
            f"a map gives each point one end, got {tuple(x.shape)} and {tuple(mapped.shape)}"
        )
    x, y = _points(x, mapped)
    strength = _strength(x, y, epsilon, cost)
    least = _entropic(x, y, strength, cost, solver)
    return cost.each(x, y).mean() - least + 2 * strength * math.log(len(x))


def sinkhorn_divergence(
    x: Float[Tensor, "n *d"],
    y: Float[Tensor, "m *e"],
    *,
    epsilon: float | Epsilon = 0.1,
    cost: GroundCost | None = None,
    solver: Sinkhorn | None = None,
) -> Float[Tensor, ""]:
    """Return ``W_e(x, y) - W_e(x, x) / 2 - W_e(y, y) / 2``, not negative up to the tolerance.

    Args:
        x: Points ``(n, *d)``, with equal weights.
        y: Points of the same shape, ``(m, *d)``.
        epsilon: As in :func:`entropic_cost`, found from ``x`` and ``y`` for all three terms.
        cost: Of a pair; :class:`SquaredEuclidean` if None.
        solver: Of the plans; ``Sinkhorn()`` if None.

    Raises:
        InputError: If shapes differ, a value is not finite or ``epsilon`` is out of range.
    """
    cost, solver = cost or SquaredEuclidean(), solver or Sinkhorn()
    x, y = _points(x, y)
    strength = _strength(x, y, epsilon, cost)
    across = _entropic(x, y, strength, cost, solver)
    within = [_paid(_symmetric(side, strength, cost, solver), side, side, cost) for side in (x, y)]
    return across - (within[0] + within[1]) / 2


def _points(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.ndim < 2 or x.shape[1:] != y.shape[1:] or 0 in (len(x), len(y)):
        raise InputError(
            f"x and y must be points of one shape, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    return flatten(x), flatten(y)


def _strength(x: Tensor, y: Tensor, epsilon: float | Epsilon, cost: GroundCost) -> float:
    """Return ``e / 2``, the strength for half the cost."""
    wanted = epsilon_of(epsilon)
    # The spread of the cost is not needed for a strength that is given.
    return wanted(0.0 if isinstance(wanted, AbsoluteEpsilon) else cost.of_pairs(x, y).std)


def _entropic(x: Tensor, y: Tensor, strength: float, cost: GroundCost, solver: Sinkhorn) -> Tensor:
    with torch.no_grad():
        plan = solver(cost.of_pairs(x, y), strength)
    return _paid(plan, x, y, cost)


def _paid(plan: Plan, x: Tensor, y: Tensor, cost: GroundCost) -> Tensor:
    """Return the value of a plan, with the gradient at the plan held fast."""
    with torch.no_grad():
        weights = torch.cat([logs.exp() for _, logs in plan.log_rows()]).to(x)
    paid = cost.under(weights, x, y)
    # The value is the dual's, whose error is of second order; the gradient that of what is paid.
    return paid + (plan.dual - paid.detach())


@torch.no_grad()
def _symmetric(x: Tensor, strength: float, cost: GroundCost, solver: Sinkhorn) -> Plan:
    """Return the plan of a set with itself, whose two potentials are one.

    The mean of the potential and its update halves the error each time, where sweeps in turn would
    need the more the smaller ``e`` is (Feydy et al. 2019, section 3.1).
    """
    costs = cost.of_pairs(x, x)
    if solver.tolerance < _FINE:
        costs = costs.double()
    f, sweeps, error = torch.zeros_like(costs.a), 0, math.inf
    while sweeps < solver.max_sweeps:
        sums = LogScaling(costs, strength, f, f).rows(torch.zeros_like(f))
        error = float(costs.a @ torch.expm1(sums).abs())
        if error < solver.tolerance:
            break
        f = f - strength * sums / 2
        sweeps += 1
    return Plan(costs, f, f, strength, sweeps, error, error < solver.tolerance)
