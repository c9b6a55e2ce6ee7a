"""Weighted flow matching: independent pairs that count for more the nearer they are.

With the weight ``w = exp(-c(x_0, x_1) / eps)``, ``c = |x_0 - x_1|``, random pairs teach the law
``q_eps ~ w q_0 q_1``. That is exactly the entropic transport plan of strength ``eps`` between its
OWN marginals, at no cost and for an unlimited batch. Those marginals are not ``q_0`` and ``q_1``:
they are tilted towards where the two overlap (:mod:`flowgen.couplings.tilt`). At sampling the
source is not tilted, so the generated law is neither the data nor the tilted data. The bias
vanishes only where ``E w`` is the same for all samples, as on spheres; with a Gaussian source in
high dimension what is left is a tilt by the norm of the data, and the gain is a path shorter by
a few percent.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, Pair, flatten
from flowgen.couplings.optimality import MOST_ROWS, plan_optimality
from flowgen.couplings.running_mean import RunningLogMean
from flowgen.couplings.tilt import TiltCorrection, effective_share, relative_variance

PairCost = Callable[[Tensor, Tensor], Tensor]
"""Costs ``(..., n, m)`` of all pairs of rows ``(..., n, d)`` and ``(..., m, d)``."""


class Weighted:
    """Leaves the pairs as they are and sets ``pair.weight = exp(-cost / epsilon)``, of mean 1.

    The scale is a running mean over batches, not the sum of the batch, whose noise would bias small
    batches. It needs no solver and costs a few distances.

    Args:
        kappa: Strength in units of ``sqrt(d)``, > 0: ``epsilon = kappa sqrt(d)`` for samples of
            ``d`` dimensions. Smaller is straighter and more tilted; ``flowgen fit-kappa`` finds it.
        epsilon: Strength in units of the cost, > 0, instead of ``kappa``.
        correction: Takes tilt out, over all pairs of the batch; None for the method as published.
        cost: Of pairs; the Euclidean norm of the difference if None.
        max_weight: Largest weight, > 1; what is cut off changes the law, see ``coupling/clamped``.
        decay: Of the running mean, in [0, 1).
        warm_up: Batches after which the scale stays fixed, >= 1; None for never.

    Attributes:
        score_valid: False: given the data, the source is tilted towards it.
        exact_marginals: That of ``correction``; False without.
        condition_safe: False, with any correction: noise near a class weighs more with that class.

    Raises:
        InputError: If not exactly one of ``kappa`` and ``epsilon`` is given, or a number is out of
            range.

    Source: weighted conditional flow matching, arXiv 2507.22270; the corrections are ours.
    """

    score_valid: bool = False
    condition_safe: bool = False

    def __init__(
        self,
        kappa: float | None = None,
        *,
        epsilon: float | None = None,
        correction: TiltCorrection | None = None,
        cost: PairCost | None = None,
        max_weight: float = 50.0,
        decay: float = 0.99,
        warm_up: int | None = 1000,
    ) -> None:
        if (kappa is None) == (epsilon is None):
            raise InputError(
                f"give kappa or epsilon, one of the two: got kappa={kappa}, epsilon={epsilon}"
            )
        for name, value in (("kappa", kappa), ("epsilon", epsilon)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be > 0 and finite, got {value}")
        if not max_weight > 1:
            raise InputError(f"max_weight must be > 1, got {max_weight}")
        self.kappa = kappa
        self.epsilon = epsilon
        self.correction = correction
        self.cost: PairCost = torch.cdist if cost is None else cost
        self.max_weight = max_weight
        self.exact_marginals: bool = correction is not None and correction.exact_marginals
        self._mean = RunningLogMean(decay, warm_up)

    @torch.no_grad()
    def __call__(self, pair: Pair, *, generator: torch.Generator | None = None) -> Pair:
        """Return the same pairs with weights; draws nothing, waits for nothing.

        Args:
            pair: Independent, unconditional and unweighted, each side ``(b, *d)``.
            generator: Unused.

        Returns:
            The pair with ``weight (b,)`` and stats: ``coupling/cost`` (mean squared distance per
            dimension, under the weights), ``coupling/saved`` (its share of the cost without),
            ``coupling/optimality`` (at least: of the weighted law of all pairs of up to 256 rows,
            in the cost that the weights are made of, between its own marginals),
            ``coupling/ess`` (effective share of the batch), ``coupling/rv_x`` and
            ``coupling/rv_y`` (tilt of source and data), ``coupling/norm`` (mean ``|x_1|^2`` under
            the weights over that without), ``coupling/clamped`` and ``coupling/ms``.

        Raises:
            InputError: If the pair has a condition or weights.
        """
        del generator
        if pair.cond:
            raise InputError(
                "Weighted got a condition: noise near a class would weigh more with that class, "
                "which sampling does not know; use coupling=class_assignment for labels or "
                "coupling=condition_assignment for other conditions, or conditional=false"
            )
        if pair.weight is not None:
            raise InputError("Weighted got pairs with weights, and sets weights of its own")
        start = time.perf_counter()
        x_0, x_1 = (
            flatten(x).to(torch.promote_types(x.dtype, torch.float32)) for x in (pair.x_0, pair.x_1)
        )
        everything, log_weight = self._log_weights(x_0, x_1)
        top = math.log(self.max_weight)
        weight = log_weight.clamp(max=top).exp()
        elapsed = 1e3 * (time.perf_counter() - start)
        rv_x, rv_y = relative_variance(everything)
        squared, norm = (v.square().mean(dim=1) for v in (x_0 - x_1, x_1))
        cost = (weight * squared).sum() / weight.sum()
        some, epsilon = slice(MOST_ROWS), self.strength(x_0.shape[1])
        figures: dict[str, float | Tensor] = {
            "coupling/cost": cost,
            "coupling/saved": 1 - cost / squared.mean(),
            "coupling/optimality": plan_optimality(
                self.cost(x_0[some], x_1[some]), everything[some, some], epsilon
            ),
            "coupling/ess": effective_share(weight),
            "coupling/rv_x": rv_x,
            "coupling/rv_y": rv_y,
            "coupling/norm": (weight * norm).sum() / (weight.sum() * norm.mean()),
            "coupling/clamped": (log_weight > top).float().mean(),
            "coupling/ms": elapsed,
        }
        return Pair(pair.x_0, pair.x_1, pair.cond, weight, stats={**pair.stats, **figures})

    def strength(self, dims: int) -> float:
        """Return ``epsilon`` for samples of ``dims`` dimensions."""
        if self.epsilon is not None:
            return self.epsilon
        assert self.kappa is not None
        return self.kappa * math.sqrt(dims)

    def state_dict(self) -> dict[str, Any]:
        """Return the running mean of the weights."""
        return self._mean.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            InputError: If it is not the state of such a coupling.
        """
        self._mean.load_state_dict(state)

    def _log_weights(
        self, x_0: Float[Tensor, "n d"], x_1: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "m m"], Float[Tensor, " n"]]:
        """Return the log weights of all pairs (of some rows) and of the pairs of the batch."""
        epsilon = self.strength(x_0.shape[1])
        if self.correction is None:
            own = -self.cost(x_0[:, None], x_1[:, None]).flatten() / epsilon
            some = slice(MOST_ROWS)
            return -self.cost(x_0[some], x_1[some]) / epsilon, own - self._mean.update(own)
        everything = self.correction(-self.cost(x_0, x_1) / epsilon)
        return everything, everything.diagonal()
