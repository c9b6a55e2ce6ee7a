"""Flow maps that are known: what every few-step method must end at."""

import torch
from torch import Tensor, nn

from flowgen.core import Condition, expand
from flowgen.models import next_edge
from oracles import GaussianOracle


class ExactMap(nn.Module):
    """The flow map of a Gaussian oracle, plus ``error`` times a fixed smooth function.

    Args:
        oracle: On the linear schedule.
        edges: None for a map to any time, else it leads to the next edge.
        error: Size of the deviation from the truth, a parameter.
    """

    def __init__(
        self, oracle: GaussianOracle, edges: tuple[float, ...] | None = None, error: float = 0.0
    ) -> None:
        super().__init__()
        self.oracle = oracle
        self.edges = edges
        self.error = nn.Parameter(torch.tensor(error, dtype=torch.float64))

    def mean_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, cond: Condition | None = None
    ) -> Tensor:
        del cond
        if self.edges is not None:
            t = next_edge(self.edges, s)
        # Where s = t the quotient is 0 / 0: the velocity stands in, and gives no gradient trouble.
        apart = t != s
        length = expand(torch.where(apart, t - s, torch.ones_like(s)), x)
        end = self.oracle.flow(x, s, torch.where(apart, t, s + 1e-3))
        mean = torch.where(expand(apart, x), (end - x) / length, self.oracle(x, s))
        bump = torch.sin(x + expand(2 * s - t, x))
        return mean + self.error * bump

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.mean_velocity(x, t, t, cond)
