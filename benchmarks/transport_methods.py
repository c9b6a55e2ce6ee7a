"""Tasks, network and methods of ``transport_2d.py``: both sides of the data, both libraries."""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from flowgen.core import Condition, Coupling, Pair, Source, generator_for
from flowgen.couplings import (
    BridgeEpsilon,
    Entropic,
    ExactAssignment,
    Independent,
    Weighted,
    elbow,
    strengths,
)
from flowgen.data import EightGaussians, Gaussian, Moons, SCurve
from flowgen.objectives import FlowMatching
from flowgen.paths import AffinePath, BrownianBridge, Linear, Path, StochasticInterpolant

SIGMA, BRIDGE_SIGMA = 0.1, 1.0
"""Width of torchcfm's paths and scale of the Brownian motion of bridges, as in its benchmark."""

Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
"""From a network and a batch of source and data to the loss."""


@dataclass(frozen=True)
class Standardized:
    """Points of a distribution with mean 0 and standard deviation ``scale`` on both axes."""

    inner: Source
    scale: float

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return ``n`` samples ``(n, 2)``."""
        many = self.inner.sample(100_000, generator=generator_for(0))
        x = self.inner.sample(n, generator=generator, device=device)
        return self.scale * (x - many.mean(dim=0)) / many.std(dim=0)


NORMAL, EIGHT, MOONS = Gaussian((2,)), EightGaussians(5.0, 1.0), Moons()
TASKS: dict[str, tuple[Source, Source]] = {
    "N -> 8 gaussians": (NORMAL, EIGHT),
    "moons -> 8 gaussians": (Standardized(Moons(noise=0.1), 7.0), EightGaussians(12.0, 1.5)),
    "N -> moons": (NORMAL, MOONS),
    "N -> s-curve": (NORMAL, SCurve()),
    "8 gaussians -> moons": (EIGHT, MOONS),
}


class Network(nn.Module):
    """The network of the benchmark: a velocity of state and time."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 64, 64, 64)
        layers: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(a, b), nn.SELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(64, 2))

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(b, 2)``."""
        del cond
        return self.layers(torch.cat([x, t[:, None]], dim=1))


def ours(coupling: Coupling, path: Path | None = None, width: float = 0.0) -> Loss:
    """Return the loss of flowgen after a coupling; a width is one noise for both ends of a pair."""
    matching = FlowMatching(AffinePath(Linear()) if path is None else path)

    def loss(network: nn.Module, x_0: Tensor, x_1: Tensor, generator: torch.Generator) -> Tensor:
        pair = coupling(Pair(x_0, x_1), generator=generator)
        if width > 0:
            noise = width * torch.randn(x_0.shape, generator=generator)
            pair = Pair(pair.x_0 + noise, pair.x_1 + noise)
        return matching(network, pair, generator=generator).total()

    return loss


def theirs(name: str) -> Loss:
    """Return the loss of torchcfm with one of its matchers."""
    cfm = importlib.import_module("torchcfm.conditional_flow_matching")
    matcher = {
        "independent": lambda: cfm.ConditionalFlowMatcher(sigma=SIGMA),
        "ot": lambda: cfm.ExactOptimalTransportConditionalFlowMatcher(sigma=SIGMA),
        # Its default, exact transport, makes no Schroedinger bridge.
        "sb": lambda: cfm.SchrodingerBridgeConditionalFlowMatcher(BRIDGE_SIGMA, "sinkhorn"),
    }[name]()

    def loss(network: nn.Module, x_0: Tensor, x_1: Tensor, generator: torch.Generator) -> Tensor:
        del generator  # it draws from the global ones, which the seed of the run has set
        t, x_t, u_t = matcher.sample_location_and_conditional_flow(x_0, x_1)
        return (network(x_t, t) - u_t).square().mean()

    return loss


def weighted(task: str) -> Loss:
    """Return weighted flow matching at the elbow of the tilt."""
    sides = TASKS[task]
    x_0, x_1 = (side.sample(2048, generator=generator_for(7, i)) for i, side in enumerate(sides))
    kappas = np.logspace(math.log10(0.02), 2, 32).tolist()
    table = strengths(x_0, x_1, kappas)
    found = elbow(table, 0.05)
    return ours(Weighted(kappa=found.kappa if found is not None else kappas[-1]))


def bridge() -> Loss:
    """Return flow matching along Brownian bridges between entropic pairs."""
    path = StochasticInterpolant(Linear(), BrownianBridge(BRIDGE_SIGMA))
    return ours(Entropic(BridgeEpsilon(BRIDGE_SIGMA)), path)


METHODS: dict[tuple[str, str], Callable[[str], Loss]] = {
    ("flowgen", "independent"): lambda task: ours(Independent()),
    ("flowgen", "ot"): lambda task: ours(ExactAssignment()),
    ("torchcfm", "independent"): lambda task: theirs("independent"),
    ("torchcfm", "ot"): lambda task: theirs("ot"),
    ("flowgen", "weighted"): weighted,
    ("flowgen", "2-rectified"): lambda task: ours(Independent()),
    ("flowgen", "sb"): lambda task: bridge(),
    ("torchcfm", "sb"): lambda task: theirs("sb"),
    ("flowgen", "independent, width 0.1"): lambda task: ours(Independent(), width=SIGMA),
    ("flowgen", "ot, width 0.1"): lambda task: ours(ExactAssignment(), width=SIGMA),
}
