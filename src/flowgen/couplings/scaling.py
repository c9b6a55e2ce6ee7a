"""The two sums of a Sinkhorn sweep, in the log domain or by products with a stored kernel.

With potentials ``f = f_0 + epsilon u`` and ``g = g_0 + epsilon v`` a sweep needs
``log sum_j b_j K_ij e^{v_j}`` and the same along columns, ``K = exp((f_0 + g_0 - C) / epsilon)``.
In the log domain, block by block, this needs no memory and about ten passes over the costs. A sweep
of both sides needs one exponential for a pair: near the solution ``e^{u_i} K_ij e^{v_j}`` is in
range, and a block of rows whose sums are known adds to the columns at once. With
``K`` stored it is one product of a matrix with a vector, faster still; nothing is lost as long
as ``u`` and ``v`` stay small: entries of ``K`` that are too small to be told from 0 could then
change no sum. Where ``u`` or ``v`` grow, they are absorbed: added to ``f_0`` and ``g_0`` and ``K``
made anew (Schmitzer 2019, arXiv 1610.06519, section 3).
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import flatten
from flowgen.couplings.pair_costs import MAX_ELEMENTS, PairCosts

_SMALLEST = -60.0
"""Exponents below give 0: no number becomes denormal, which would be slow."""

_LARGEST = 10.0
"""Scalings up to which a stored kernel is exact: what it leaves out of a sum is below
``e^{2 _LARGEST + _SMALLEST}`` of the largest entry."""


@runtime_checkable
class Scaling(Protocol):
    """Sums along rows and columns of a kernel around two potentials."""

    def rows(self, v: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """Return ``log sum_j b_j K_ij e^{v_j}``."""
        ...

    def columns(self, u: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        """Return ``log sum_i a_i K_ij e^{u_i}``."""
        ...

    def sweep(
        self, u: Float[Tensor, " n"], v: Float[Tensor, " m"], length: float
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Return the scalings after a step of ``u``, then one of ``v``.

        Args:
            u: ``(n,)``.
            v: ``(m,)``.
            length: Of the steps: 1 goes to ``-rows(v)`` and ``-columns(u)``.
        """
        ...

    def exact(self, u: Float[Tensor, " n"], v: Float[Tensor, " m"]) -> bool:
        """Whether sums with these scalings are exact up to rounding."""
        ...


class LogScaling:
    """Sums in the log domain, block by block: always exact.

    Args:
        costs: Of all pairs.
        epsilon: Strength, in units of the cost.
        f: Potential ``(n,)`` around which the scalings count.
        g: Potential ``(m,)``.
    """

    def __init__(
        self,
        costs: PairCosts,
        epsilon: float,
        f: Float[Tensor, " n"],
        g: Float[Tensor, " m"],
    ) -> None:
        self.costs = costs
        self.epsilon = epsilon
        self.f, self.g = f / epsilon, g / epsilon
        self.log_a, self.log_b = costs.a.log(), costs.b.log()

    def rows(self, v: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """Return ``log sum_j b_j K_ij e^{v_j}``."""
        shift = self.g + v + self.log_b
        return self.f + self._sums(self.costs.rows(), shift)

    def columns(self, u: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        """Return ``log sum_i a_i K_ij e^{u_i}``."""
        shift = self.f + u + self.log_a
        return self.g + self._sums(self.costs.columns(), shift)

    def sweep(
        self, u: Float[Tensor, " n"], v: Float[Tensor, " m"], length: float
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Return the scalings after a step of ``u``, then one of ``v``."""
        shift, level = self.g + v + self.log_b, (self.f + u)[:, None]
        weights, steps = self.costs.a, []
        sums = torch.zeros_like(v)
        for rows, cost in self.costs.rows():
            plan = torch.add(shift, cost, alpha=-1 / self.epsilon)
            plan += level[rows]
            plan.clamp_(min=_SMALLEST).exp_()
            step = plan.sum(dim=1).log_()
            sums.addmv_(plan.mT, weights[rows] * (-length * step).exp_())
            steps.append(step)
        step_u = torch.cat(steps)
        step_v = sums.log_() - self.log_b
        # Far from the solution numbers leave the range: then the slow way.
        if bool(torch.maximum(step_u.abs().amax(), step_v.abs().amax()) <= _LARGEST):
            return u - length * step_u, v - length * step_v
        return _sweep(self, u, v, length)

    def exact(self, u: Float[Tensor, " n"], v: Float[Tensor, " m"]) -> bool:
        """Return True."""
        del u, v
        return True

    def _sums(self, blocks, shift: Tensor) -> Tensor:
        return torch.cat(
            [torch.add(shift, c, alpha=-1 / self.epsilon).logsumexp(dim=1) for _, c in blocks]
        )


class StoredScaling:
    """Sums as products of a stored kernel with vectors: exact for small scalings.

    Args:
        costs: Of all pairs, held.
        epsilon: Strength, in units of the cost.
        f: Potential ``(n,)`` around which the kernel is made.
        g: Potential ``(m,)``.
    """

    def __init__(
        self,
        costs: PairCosts,
        epsilon: float,
        f: Float[Tensor, " n"],
        g: Float[Tensor, " m"],
    ) -> None:
        exponent = torch.add((f / epsilon)[:, None], costs.matrix, alpha=-1 / epsilon)
        exponent += g / epsilon
        self.kernel = torch.threshold_(exponent, _SMALLEST, -torch.inf).exp_()
        self.a, self.b = costs.a, costs.b

    def rows(self, v: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
        """Return ``log sum_j b_j K_ij e^{v_j}``."""
        return (self.kernel @ v.exp().mul_(self.b)).log_()

    def columns(self, u: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        """Return ``log sum_i a_i K_ij e^{u_i}``."""
        return (self.kernel.mT @ u.exp().mul_(self.a)).log_()

    def sweep(
        self, u: Float[Tensor, " n"], v: Float[Tensor, " m"], length: float
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Return the scalings after a step of ``u``, then one of ``v``."""
        return _sweep(self, u, v, length)

    def exact(self, u: Float[Tensor, " n"], v: Float[Tensor, " m"]) -> bool:
        """Whether all scalings are small; False where one is not finite."""
        largest = torch.maximum(u.abs().amax(), v.abs().amax())
        return bool(largest <= _LARGEST)


def _sweep(around: Scaling, u: Tensor, v: Tensor, length: float) -> tuple[Tensor, Tensor]:
    u = torch.lerp(u, around.rows(v).neg_(), length)
    return u, torch.lerp(v, around.columns(u).neg_(), length)


def potential_at(
    x_0: Float[Tensor, "n *d"],
    y: Float[Tensor, "m e"],
    g: Float[Tensor, " m"],
    epsilon: float,
    *,
    max_elements: int = MAX_ELEMENTS,
) -> Float[Tensor, " n"]:
    """Return ``f_i = -epsilon log mean_j exp((g_j + x_i . y_j) / epsilon)``: a start at new noise.

    Args:
        x_0: New source samples.
        y: Data samples of a plan before, flat.
        g: Their potential in that plan.
        epsilon: Strength for the cost ``-x . y``.
        max_elements: Pairs whose costs are held at once.

    Source: Zhang et al. 2025, arXiv 2506.05526.
    """
    costs = PairCosts(flatten(x_0), y.to(x_0.dtype), max_elements=max_elements)
    scaling = LogScaling(costs, epsilon, torch.zeros_like(costs.a), g.to(costs.y))
    return -epsilon * scaling.rows(torch.zeros_like(costs.b))
