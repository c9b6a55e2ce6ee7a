"""What a map costs, and how much of it is in vain: its exact Monge gap.

A map that takes ``x_i`` to ``T x_i`` costs ``mean |x_i - T x_i|^2``. The same ends could be reached
for ``W2^2(x, T x)``, by an assignment. The difference is the Monge gap: 0 if and only if the map is
optimal between its inputs and its ends, whatever the ends are worth.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from flowgen.core import flatten
from flowgen.metrics.transport import exact_w2


@dataclass(frozen=True)
class MapCost:
    """Costs of a map in squared units of the data, summed over the axes of a sample.

    Args:
        cost: ``mean |x - T x|^2``.
        least: ``W2^2(x, T x)``, the least cost of the same ends.
    """

    cost: float
    least: float

    @property
    def gap(self) -> float:
        """``cost - least``, not negative."""
        # Equal sums in another order differ by rounding.
        return max(self.cost - self.least, 0.0)

    @property
    def relative_gap(self) -> float:
        """Share of the cost that is in vain, in [0, 1]; 0 for a map that moves nothing."""
        return self.gap / self.cost if self.cost > 0 else 0.0


def map_cost(x: Float[Tensor, "n *d"], mapped: Float[Tensor, "m *e"]) -> MapCost:
    """Return cost and exact Monge gap of a map, from points and where it takes them.

    Args:
        x: Inputs ``(n, *d)``; time grows as ``n^3``.
        mapped: The end of each, ``(n, *d)``.

    Raises:
        InputError: If shapes differ or a value is not finite.

    Source: Uscidda and Cuturi 2023, arXiv 2302.04953, definition 3.1.
    """
    least = exact_w2(x, mapped).w2_squared
    moved = flatten(x.detach().cpu().double()) - flatten(mapped.detach().cpu().double())
    return MapCost(float(moved.square().sum(dim=1).mean()), least)
