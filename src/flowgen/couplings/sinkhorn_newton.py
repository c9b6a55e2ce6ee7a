"""Entropic transport to high accuracy at small epsilon: Newton steps with a sparse Hessian.

The potentials maximise the concave ``a . f + b . g - epsilon (sum P - 1)``, whose gradient is what
the marginals of ``P`` lack and whose Hessian is ``-M / epsilon`` with

    ``M = [[diag(P 1), P], [P^T, diag(P^T 1)]]``.

At small epsilon nearly all mass of ``P`` lies on a few entries of each row after some Sinkhorn
sweeps; with ``P`` in ``M`` replaced by those, a product with ``M`` costs as much as there are of
them, and conjugate gradients solve ``M d = epsilon gradient`` quickly. Sinkhorn's algorithm needs
about ``1 / epsilon`` sweeps where a dozen of these steps do.
"""

import math
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError
from flowgen.couplings.pair_costs import PairCosts
from flowgen.couplings.plan import Plan
from flowgen.couplings.sinkhorn import Sinkhorn

_ARMIJO = 1e-4
_HALVINGS = 40


class SinkhornNewtonSparse:
    """Sinkhorn sweeps, then Newton steps with a Hessian of the largest entries, on a CPU.

    The number of entries follows from ``dropped`` at each step. A fixed number, as in the paper,
    costs the fast convergence where it is a little too small: with ``n`` entries for ``n`` rows it
    may fail, with ``2 n`` it is linear.

    Args:
        tolerance: L1 error of both marginals to stop at, > 0.
        warm_up: Sinkhorn sweeps before the first Newton step, >= 1.
        max_steps: Newton steps after which to give up, >= 1.
        dropped: Largest share of the mass that the Hessian leaves out, in (0, 1).

    Raises:
        InputError: If a number is out of range.

    Source: Tang et al. 2024, arXiv 2401.12253.
    """

    def __init__(
        self,
        tolerance: float = 1e-9,
        *,
        warm_up: int = 50,
        max_steps: int = 100,
        dropped: float = 1e-5,
    ) -> None:
        if not 0 < tolerance < math.inf:
            raise InputError(f"tolerance must be > 0 and finite, got {tolerance}")
        for name, value in (("warm_up", warm_up), ("max_steps", max_steps)):
            if value < 1:
                raise InputError(f"{name} must be >= 1, got {value}")
        if not 0 < dropped < 1:
            raise InputError(f"dropped must be in (0, 1), got {dropped}")
        self.tolerance = tolerance
        self.warm_up = warm_up
        self.max_steps = max_steps
        self.dropped = dropped

    @torch.no_grad()
    def __call__(
        self, costs: PairCosts, epsilon: float, *, start: Float[Tensor, " n"] | None = None
    ) -> Plan:
        """Return the plan, converged or not: see :attr:`Plan.converged`.

        Args:
            costs: Of all pairs, held.
            epsilon: Strength for the cost ``-x . y``, > 0.
            start: A guess of ``f``, ``(n,)``.

        Returns:
            The plan; its ``iterations`` are sweeps and Newton steps together.

        Raises:
            InputError: If ``epsilon`` is not > 0 or the costs do not fit into ``max_elements``.
        """
        if not costs.held:
            n, m = costs.shape
            raise InputError(
                f"SinkhornNewtonSparse holds all costs in memory, but {n} x {m} is above "
                f"max_elements={costs.max_elements}; pair fewer rows or use Sinkhorn"
            )
        costs = costs.double()
        rough = Sinkhorn(self.tolerance, self.warm_up)(costs, epsilon, start=start)
        dual = _Dual(costs, epsilon)
        z = np.concatenate([rough.f.cpu().numpy(), rough.g.cpu().numpy()])
        value, plan = dual.at(z)
        steps = 0
        while True:
            lacking = dual.gradient(plan)
            error = float(np.abs(lacking).sum())
            if error < self.tolerance or steps >= self.max_steps:
                break
            direction = self._direction(dual, plan, lacking)
            found = _line_search(dual, z, value, direction, float(lacking @ direction))
            if found is None:
                break
            z, value, plan = found
            steps += 1
        f, g = (torch.from_numpy(part).to(costs.a) for part in np.split(z, [costs.shape[0]]))
        done = error < self.tolerance
        return Plan(costs, f, g, epsilon, rough.iterations + steps, error, done)

    def _direction(self, dual: "_Dual", plan: np.ndarray, lacking: np.ndarray) -> np.ndarray:
        """Return the Newton direction: ``epsilon M^-1 lacking`` with a sparse ``M``."""
        kept = _largest(plan, self.dropped)
        rows, columns = plan.sum(axis=1), plan.sum(axis=0)
        n = len(rows)
        both = scipy.sparse.bmat([[None, kept], [kept.T, None]], format="csr")
        diagonal = np.concatenate([rows, columns])
        # Scaled to a diagonal of ones, which is Jacobi's preconditioner.
        scale = 1 / np.sqrt(np.maximum(diagonal, np.finfo(float).tiny))
        # (1, -1) costs nothing: sums of mass on both sides are equal.
        null = np.concatenate([np.ones(n), -np.ones(len(columns))]) / scale
        null /= np.linalg.norm(null)

        def product(d: np.ndarray) -> np.ndarray:
            d = d - null * (null @ d)
            out = d + scale * (both @ (scale * d))
            return out - null * (null @ out)

        right = scale * lacking
        right = right - null * (null @ right)
        size = 2 * [len(diagonal)]
        # Its stub knows the base class alone.
        kind: Any = scipy.sparse.linalg.LinearOperator
        operator = kind(size, matvec=product, dtype=np.float64)
        # Exact enough for a rate of convergence that grows as the error falls.
        accuracy = min(1e-2, float(np.abs(lacking).sum()))
        solved, _ = scipy.sparse.linalg.cg(operator, right, rtol=accuracy, maxiter=10 * size[0])
        return dual.epsilon * scale * (solved - null * (null @ solved))


class _Dual:
    """The function that the potentials maximise, as one vector ``z = (f, g)``."""

    def __init__(self, costs: PairCosts, epsilon: float) -> None:
        self.epsilon = epsilon
        self.a, self.b = costs.a.cpu().numpy(), costs.b.cpu().numpy()
        self.both = np.concatenate([self.a, self.b])
        log_a, log_b = np.log(self.a), np.log(self.b)
        self._constant = costs.matrix.cpu().numpy() * (-1 / epsilon)
        self._constant += log_a[:, None]
        self._constant += log_b

    def at(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the value, ``-inf`` where it overflows, and the plan ``(n, m)``."""
        f, g = np.split(z / self.epsilon, [len(self.a)])
        plan = self._constant + f[:, None]
        plan += g
        with np.errstate(over="ignore"):
            np.exp(plan, out=plan)
            mass = float(plan.sum())
        return float(self.both @ z) - self.epsilon * (mass - 1), plan

    def gradient(self, plan: np.ndarray) -> np.ndarray:
        """Return what the marginals of ``plan`` lack, ``(n + m,)``."""
        return self.both - np.concatenate([plan.sum(axis=1), plan.sum(axis=0)])


def _largest(plan: np.ndarray, dropped: float) -> scipy.sparse.csr_array:
    """Return ``plan`` without its small entries, which hold at most the share ``dropped``."""
    # As many as there are, each below this, cannot hold more.
    least = dropped * plan.sum() / plan.size
    rows, columns = np.nonzero(plan >= least)
    return scipy.sparse.csr_array((plan[rows, columns], (rows, columns)), shape=plan.shape)


def _line_search(
    dual: _Dual, z: np.ndarray, value: float, direction: np.ndarray, slope: float
) -> tuple[np.ndarray, float, np.ndarray] | None:
    """Return the first of ``z + direction``, ``z + direction / 2``, ... that gains enough."""
    # Near the maximum a gain is lost in the rounding of the value.
    rounding = 8 * np.finfo(float).eps * abs(value)
    length = 1.0
    for _ in range(_HALVINGS):
        moved = z + length * direction
        reached, plan = dual.at(moved)
        if reached >= value + _ARMIJO * length * slope - rounding:
            return moved, reached, plan
        length /= 2
    return None
