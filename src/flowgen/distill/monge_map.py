"""A map from source to data in one evaluation, fitted to no pairs and held to a small Monge gap.

The map is ``T(x) = x + u(x, 0, 1)``, one jump of a flow map. Its loss is

    ``S(T x_0, x_1) + weight M(x_0, T x_0)``,

the Sinkhorn divergence of its ends from the data, which says nothing of who goes where, and the
Monge gap, which asks that nobody goes farther than the ends need. Where both vanish ``T`` is the
optimal map, for any weight above 0.

With conditions it is the conditional Monge gap: ``T(x, c)`` with both terms for each context alone,
in the mean over the contexts of the batch.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError, Loss, Pair, VelocityField, domain_of, flatten
from flowgen.couplings import monge_gap, sinkhorn_divergence
from flowgen.couplings.epsilon import Epsilon
from flowgen.couplings.ground_costs import GroundCost
from flowgen.couplings.sinkhorn import Sinkhorn
from flowgen.integrators.jumps import jump


class MongeMap(nn.Module):
    """The Sinkhorn divergence from the data plus ``weight`` times the Monge gap.

    Both costs are of ``x / sqrt(d)``: the mean over the ``d`` axes of a sample for squared costs.

    Args:
        weight: Of the Monge gap, >= 0; 0 fits the ends alone.
        fit_epsilon: Of the divergence, see :func:`flowgen.couplings.entropic_cost`.
        gap_epsilon: Of the gap, likewise.
        cost: Ground cost of both; squared if None.
        solver: Of the plans; ``Sinkhorn()`` if None.

    Attributes:
        score_valid: False: a map knows no score.

    Raises:
        InputError: If the weight is not >= 0 and finite.

    Source: Uscidda and Cuturi 2023, arXiv 2302.04953, section 4; Harsanyi et al. 2025, arXiv
        2504.08328 (conditional).
    """

    score_valid: bool = False

    def __init__(
        self,
        *,
        weight: float = 1.0,
        fit_epsilon: float | Epsilon = 0.1,
        gap_epsilon: float | Epsilon = 0.1,
        cost: GroundCost | None = None,
        solver: Sinkhorn | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise InputError(f"weight must be >= 0 and finite, got {weight}")
        self.weight = float(weight)
        self.fit_epsilon, self.gap_epsilon = fit_epsilon, gap_epsilon
        self.cost, self.solver = cost, solver

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return one loss for the whole batch, in every row.

        The solver waits for its device, as couplings do.

        Args:
            model: A flow map that leads from 0 to 1.
            pair: Source and data, not paired in any sense; conditions are whole numbers, one a row.
            step: Unused.
            generator: Unused: nothing is drawn.

        Returns:
            The loss with its terms ``divergence`` and ``monge_gap``.

        Raises:
            InputError: If pairs have weights, conditions are no classes, or the model is a mere
                velocity.
        """
        del step, generator
        if pair.weight is not None:
            raise InputError("a Monge map fits two sets, which pair weights mean nothing for")
        ends = end_of(model, pair.x_0, pair.cond)
        scale = math.sqrt(pair.x_0[0].numel())
        x_0, x_1, mapped = (flatten(x) / scale for x in (pair.x_0, pair.x_1, ends))
        terms = {"divergence": mapped.new_zeros(()), "monge_gap": mapped.new_zeros(())}
        for rows in contexts(pair.cond, pair.x_0):
            share = len(rows) / len(pair)
            given = {"cost": self.cost, "solver": self.solver}
            fit = sinkhorn_divergence(mapped[rows], x_1[rows], epsilon=self.fit_epsilon, **given)
            terms["divergence"] = terms["divergence"] + share * fit
            if self.weight > 0:
                gap = monge_gap(x_0[rows], mapped[rows], epsilon=self.gap_epsilon, **given)
                terms["monge_gap"] = terms["monge_gap"] + share * gap
        total = terms["divergence"] + self.weight * terms["monge_gap"]
        value = total.expand(len(pair))
        return Loss(value, pair, value.new_zeros(len(pair)).detach(), terms)


def end_of(model: VelocityField, x_0: Tensor, cond: Condition | None = None) -> Tensor:
    """Return where a flow map takes source samples in one jump, ``(b, *d)``.

    Raises:
        InputError: If the model is a mere velocity or does not lead to the data at once.
    """
    low, high = domain_of(model)
    start = getattr(model, "initial_scale", 1.0) * x_0
    return jump(model, start, low, high, cond, "a Monge map")


def contexts(cond: Condition | None, x: Tensor) -> Iterator[Tensor]:
    """Yield the rows of each context: those whose conditions are all the same.

    Raises:
        InputError: If a condition is not one whole number a row, such as a text.
    """
    if not cond:
        yield torch.arange(len(x), device=x.device)
        return
    for name, value in cond.items():
        if value.ndim != 1 or value.is_floating_point():
            raise InputError(
                f"a Monge map takes classes as contexts, and {name} is none: use "
                "conditional=[label] or conditional=false"
            )
    keys = torch.stack([value.to(torch.int64) for value in cond.values()], dim=1)
    _, which = keys.unique(dim=0, return_inverse=True)
    for context in range(int(which.max()) + 1):
        yield (which == context).nonzero()[:, 0]
