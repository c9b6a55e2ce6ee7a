"""Costs of carrying ``x`` to ``y`` that a learnt map is held to, and plans for any of them.

The solvers of entropic plans work on ``-x . y``. A given matrix of costs fits in: it is minus the
scalar product of its own rows with unit vectors, once the means of rows and columns are taken off,
which no balanced plan sees.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, flatten
from flowgen.couplings.pair_costs import PairCosts


class MatrixCosts(PairCosts):
    """A matrix ``D`` in the place of ``|x - y|^2``, for the solvers of entropic plans.

    Args:
        whole: ``D``, finite, ``(n, m)``; both sides have equal weights.

    Raises:
        InputError: If a cost is not finite.
    """

    def __init__(self, whole: Float[Tensor, "n m"]) -> None:
        whole = whole.detach()
        if not bool(whole.isfinite().all()):
            raise InputError("x and y must have finite costs")
        half = whole / 2
        self.row = half.mean(dim=1)
        self.column = half.mean(dim=0) - half.mean()
        self._whole = whole
        self._matrix = half - self.row[:, None] - self.column
        self._std = None
        self.x, self.y = -self._matrix, torch.eye(whole.shape[1]).to(half)
        self.a = half.new_full((whole.shape[0],), 1 / whole.shape[0])
        self.b = half.new_full((whole.shape[1],), 1 / whole.shape[1])
        self.max_elements = max(1, whole.numel())

    def double(self) -> "MatrixCosts":
        """Return the same costs in double precision."""
        return self if self._whole.dtype == torch.float64 else MatrixCosts(self._whole.double())


@runtime_checkable
class GroundCost(Protocol):
    """What it costs to carry one point to another."""

    def each(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the cost of each row of ``x`` with the same row of ``y``, differentiable."""
        ...

    def under(
        self, plan: Float[Tensor, "n m"], x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
    ) -> Float[Tensor, ""]:
        """Return ``sum_ij P_ij c(x_i, y_j)`` of a plan ``P``, differentiable in both sides."""
        ...

    def of_pairs(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> PairCosts:
        """Return the costs of all pairs, for a solver."""
        ...


class SquaredEuclidean:
    """``|x - y|^2``: its optimal maps are gradients of convex functions (Brenier)."""

    def each(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return ``|x_i - y_i|^2``."""
        return (x - y).square().sum(dim=1)

    def under(
        self, plan: Float[Tensor, "n m"], x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
    ) -> Float[Tensor, ""]:
        """Return ``sum_ij P_ij |x_i - y_j|^2``."""
        # About one centre, since squares of large numbers would cancel.
        centre = y.detach().mean(dim=0)
        x, y = x - centre, y - centre
        alone = plan.sum(dim=1) @ x.square().sum(dim=1) + plan.sum(dim=0) @ y.square().sum(dim=1)
        return alone - 2 * (plan * (x @ y.mT)).sum()

    def of_pairs(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> PairCosts:
        """Return the costs of all pairs, for a solver."""
        return PairCosts(x, y)

    def __repr__(self) -> str:
        return "SquaredEuclidean()"


class Euclidean:
    """``|x - y|``, the cost of the conditional Monge gap's experiments.

    Source: Harsanyi et al. 2025, arXiv 2504.08328 (its code).
    """

    def each(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return ``|x_i - y_i|``, with gradient 0 where it is 0."""
        return torch.linalg.vector_norm(x - y, dim=1)

    def under(
        self, plan: Float[Tensor, "n m"], x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
    ) -> Float[Tensor, ""]:
        """Return ``sum_ij P_ij |x_i - y_j|``."""
        return (plan * _distances(x, y)).sum()

    def of_pairs(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> PairCosts:
        """Return the costs of all pairs, for a solver."""
        return MatrixCosts(_distances(x.detach(), y.detach()))

    def __repr__(self) -> str:
        return "Euclidean()"


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # Not by products, which lose the small distances.
    return torch.cdist(flatten(x), flatten(y), compute_mode="donot_use_mm_for_euclid_dist")
