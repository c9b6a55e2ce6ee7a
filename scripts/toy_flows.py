"""Small flows in the plane, for figures: train one with a coupling, sample it, measure it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from flowgen.core import Pair, generator_for
from flowgen.integrators import Euler, Heun, Sampler, Uniform
from flowgen.metrics import exact_w2
from flowgen.models import MLP
from flowgen.objectives import FlowMatching
from flowgen.paths import AffinePath, Linear

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""From a number and a generator to points ``(n, 2)`` and their labels ``(n,)``."""


def moons(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points of two moons, of the size of ``data=moons``, labelled by the moon."""
    label = torch.randint(0, 2, (n,), generator=generator)
    angle = math.pi * torch.rand(n, generator=generator)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    curve = torch.where(label[:, None] == 0, upper, lower)
    noise = 0.05 * torch.randn(n, 2, generator=generator)
    return 2 * (curve + noise) - torch.tensor([1.0, 0.0]), label


def train(
    pair: Callable[[torch.Generator], Pair],
    *,
    num_classes: int | None,
    steps: int,
    seed: int = 0,
) -> MLP:
    """Return a network trained on the pairs that ``pair`` draws, with its rate falling to 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MLP((2,), num_classes, width=64, depth=3)
    objective = FlowMatching(AffinePath(Linear()))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = generator_for(seed, 1)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(model, pair(generator), generator=generator).total().backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def sample(model: MLP, x_0: Tensor, label: Tensor | None = None, *, euler: int = 0) -> Tensor:
    """Return the ends of the flow from ``x_0``: by Euler steps, or finely if ``euler`` is 0."""
    sampler = Sampler(Euler(), Uniform(), euler) if euler else Sampler(Heun(), Uniform(), 100)
    return sampler.sample(model, x_0, None if label is None else {"label": label})


def distance(samples: Tensor, data: Tensor) -> float:
    """Return the exact W2 distance of two sets of as many points."""
    return exact_w2(samples, data).w2
