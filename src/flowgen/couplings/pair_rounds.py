"""Entropic pairs of very many rows of noise with a training set, round by round.

Transport of a few hundred rows hardly straightens the flow in many dimensions; gains come with 1e4
rows and more at small epsilon, which is too slow for a training step and not needed there: a plan
depends on data and noise alone. So it is solved before, block by block if it is large, and one
partner drawn for each row. A training set of more rows than a round has is gone through part by
part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError, Source, flatten, generator_for
from flowgen.couplings.epsilon import RelativeEpsilon
from flowgen.couplings.pair_costs import MAX_ELEMENTS, PairCosts
from flowgen.couplings.plan import Plan
from flowgen.couplings.scaling import potential_at
from flowgen.couplings.sinkhorn import Sinkhorn
from flowgen.couplings.stored_pairs import BLOCK, noise_block

_DATA, _DRAWS = 6, 7
"""Streams of random numbers, beside that of the noise."""


@dataclass(frozen=True)
class Round:
    """The pairs of one round.

    Args:
        index: Row of the training set for each row of noise, ``(rows,)``.
        converged: Whether every plan reached the tolerance.
        sweeps: Of all plans together.
        error: Largest error of marginals.
        entropy: Mean renormalised entropy of the plans: 0 for an assignment, 1 for random pairs.
        cost: Mean squared distance per dimension under the plans.
        random: The same for random pairs.
    """

    index: Int[Tensor, " rows"]
    converged: bool
    sweeps: int
    error: float
    entropy: float
    cost: float
    random: float


@dataclass
class PairRounds:
    """Makes rounds of pairs; a round depends on the seed and its number, up to the tolerance.

    Args:
        x_1: The training set in the model's space, ``(n, *d)``, on the device to work on.
        label: Classes ``(n,)`` to pair inside, or None.
        source: Of the noise, drawn on the CPU.
        rows: Of noise in a round, a multiple of 64.
        epsilon: In standard deviations of the cost, > 0.
        seed: >= 0.
        solver: Of the plans.
        max_elements: Pairs whose costs are held in memory; more are worked on block by block.

    Raises:
        InputError: If a number is out of range.

    Source: Zhang et al. 2025, arXiv 2506.05526.
    """

    x_1: Float[Tensor, "n *d"]
    label: Int[Tensor, " n"] | None
    source: Source
    rows: int
    epsilon: float
    seed: int
    solver: Sinkhorn
    max_elements: int = MAX_ELEMENTS
    _before: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.rows < BLOCK or self.rows % BLOCK:
            raise InputError(f"rows must be a multiple of {BLOCK}, got {self.rows}")
        if self.seed < 0:
            raise InputError(f"seed must be >= 0, got {self.seed}")
        if self.max_elements < 1:
            raise InputError(f"max_elements must be >= 1, got {self.max_elements}")
        self._strength = RelativeEpsilon(self.epsilon)

    def noise(self, number: int) -> Float[Tensor, "rows *d"]:
        """Return the noise of a round, on the device of the data."""
        blocks = [noise_block(self.source, self.seed, number, b) for b in range(self.rows // BLOCK)]
        return torch.cat(blocks).to(self.x_1)

    @torch.no_grad()
    def __call__(self, number: int, told: Callable[[str], None] | None = None) -> Round:
        """Return a round.

        Args:
            number: Of the round, from 0.
            told: Called with the name of each part before it is solved.
        """
        noise, columns = self.noise(number), self._columns(number)
        index = torch.empty(self.rows, dtype=torch.int64, device=noise.device)
        dims = noise[0].numel()
        weighted = {"entropy": 0.0, "cost": 0.0, "random": 0.0}
        converged, sweeps, error = True, 0, 0.0
        for part, (rows, data) in self._parts(number, columns).items():
            if told is not None:
                told(f"{len(rows)} noises x {len(data)} samples")
            plan = self._plan(part, noise[rows], self.x_1[data])
            drawn = plan.draw(generator_for(self.seed, number, part + 1, _DRAWS))
            index[rows] = data[drawn.index]
            share = len(rows) / self.rows
            weighted["entropy"] += share * drawn.entropy
            weighted["cost"] += share * drawn.cost / dims
            weighted["random"] += share * plan.costs.offset / dims
            converged &= plan.converged
            sweeps += plan.iterations
            error = max(error, plan.error)
        return Round(index.cpu(), converged, sweeps, error, **weighted)

    def _columns(self, number: int) -> Tensor:
        """Return the samples of a round: all, or the next part of an order of them."""
        size = len(self.x_1)
        if size <= self.rows:
            return torch.arange(size, device=self.x_1.device)
        parts = size // self.rows
        order = torch.randperm(size, generator=generator_for(self.seed, number // parts, _DATA))
        first = number % parts * self.rows
        return order[first : first + self.rows].to(self.x_1.device)

    def _parts(self, number: int, columns: Tensor) -> Mapping[int, tuple[Tensor, Tensor]]:
        """Return which rows of noise meet which samples; each class on its own."""
        device = columns.device
        if self.label is None:
            return {-1: (torch.arange(self.rows, device=device), columns)}
        generator = generator_for(self.seed, number, 0, _DRAWS)
        times = -(-self.rows // len(columns))
        orders = [torch.randperm(len(columns), generator=generator) for _ in range(times)]
        asked = self.label[columns[torch.cat(orders)[: self.rows].to(device)]]
        found = self.label[columns]
        return {
            int(value): ((asked == value).nonzero()[:, 0], columns[found == value])
            for value in asked.unique()
        }

    def _plan(self, part: int, x_0: Tensor, x_1: Tensor) -> Plan:
        costs = PairCosts(x_0, x_1, max_elements=self.max_elements)
        epsilon = self._strength(costs.std)
        start = None
        if part in self._before:
            y, g = self._before[part]
            start = potential_at(flatten(x_0), y, g, epsilon, max_elements=self.max_elements)
        plan = self.solver(costs, epsilon, start=start)
        self._before[part] = (plan.costs.y.to(costs.y), plan.g.to(costs.y))
        return plan
