"""Students whose samples have a known law."""

import torch
from torch import Tensor, nn

from flowgen.core import Condition, expand
from oracles import GaussianOracle


class AffineStudent(nn.Module):
    """The exact map to ``N(shift, scale^2)`` of one dimension, with both as parameters."""

    edges = (0.0, 1.0)

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def mean_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, cond: Condition | None = None
    ) -> Tensor:
        del t, cond
        spread = ((1 - s) ** 2 + (s * self.scale) ** 2).sqrt()
        end = self.shift + expand(self.scale / spread, x) * (x - expand(s, x) * self.shift)
        return (end - x) / expand(1 - s, x)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.mean_velocity(x, t, t, cond)


class SlopesAtNodes(nn.Module):
    """Mean velocities to the data ``P(s) x``, with ``P`` known at some times alone."""

    edges = (0.0, 1.0)

    def __init__(self, nodes: Tensor, slopes: Tensor) -> None:
        super().__init__()
        self.nodes, self.slopes = nodes, slopes

    def mean_velocity(
        self, x: Tensor, s: Tensor, t: Tensor, cond: Condition | None = None
    ) -> Tensor:
        del t, cond
        nearest = (s[:, None] - self.nodes).abs().argmin(dim=1)
        return expand(self.slopes[nearest], x) * x

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.mean_velocity(x, t, t, cond)


class OracleField(nn.Module):
    """The velocity of a Gaussian oracle as a module."""

    def __init__(self, oracle: GaussianOracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        return self.oracle(x, t, cond)


class At:
    """Always the same time."""

    def __init__(self, t: float) -> None:
        self.t = t

    def __call__(self, n, *, generator=None, device=None):
        return torch.full((n,), self.t)

    def density(self, t):
        return torch.ones_like(t)


def gaussian(mean: float, std: float) -> GaussianOracle:
    """The oracle of data ``N(mean, std^2)``."""
    return GaussianOracle(*(torch.tensor(x, dtype=torch.float64) for x in ([mean], [[std**2]])))
