"""A mixture on the line whose flow map is known: ``X(x, 0, 1) = F_1^-1(F_0(x))``.

Students are trained on it from a network fitted to the closed-form velocity, as in practice.
"""

import functools

import torch
from torch import Tensor

from flowgen.core import Condition, Follows, Objective, Pair, Prepared, generator_for
from flowgen.distill import Frozen
from flowgen.models import MLP, FlowMapField, PredictionField, SegmentField
from flowgen.objectives import FlowMatching
from flowgen.paths import AffinePath, Linear, Velocity
from oracles import MixtureOracle
from unchecked import checked_at_first

WEIGHTS = torch.tensor([0.3, 0.7]).double()
MEANS = torch.tensor([-2.0, 1.5]).double()
STDS = torch.tensor([0.3, 0.6]).double()
PATH = AffinePath(Linear())


def oracle() -> MixtureOracle:
    """The mixture; its field is the closed-form velocity."""
    return MixtureOracle(WEIGHTS, MEANS[:, None], STDS)


def cdf(x: Tensor) -> Tensor:
    """The distribution function of the data."""
    normal = torch.distributions.Normal(MEANS, STDS)
    return (WEIGHTS * normal.cdf(x[:, None])).sum(dim=1)


@functools.cache
def ends() -> tuple[Tensor, Tensor]:
    """Source points ``(n, 1)`` at the middle of equal shares, and where the flow takes them."""
    share = (torch.arange(2000).double() + 0.5) / 2000
    x_0 = torch.distributions.Normal(0.0, 1.0).icdf(share)
    low, high = torch.full_like(share, -10.0), torch.full_like(share, 10.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = cdf(middle) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return x_0[:, None], low[:, None]


def mean_error(student: SegmentField | FlowMapField, num_jumps: int = 1) -> float:
    """The mean distance of a student's ends to the true ones."""
    x_0, x_1 = (x.float() for x in ends())
    nodes = torch.linspace(0, 1, num_jumps + 1)
    x = x_0
    with torch.no_grad():
        for s, t in zip(nodes[:-1], nodes[1:], strict=True):
            u = student.mean_velocity(x, s.expand(len(x)), t.expand(len(x)))
            x = x + (t - s) * u
    return float((x - x_1).abs().mean())


def fit(field: PredictionField, objective: Objective, steps: int, lr: float) -> None:
    """Train a field; the length is told to objectives that depend on it."""
    if hasattr(objective, "total_steps"):
        objective.total_steps = steps  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(objective, Prepared):
        objective.begin(field)
    optimizer = torch.optim.Adam(field.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        with checked_at_first(step):
            generator = generator_for(0, step)
            pair = oracle().sample(512, generator=generator)
            pair = Pair(pair.x_0.float(), pair.x_1.float())
            optimizer.zero_grad()
            objective(field, pair, step=step, generator=generator).total().backward()
            torch.nn.utils.clip_grad_norm_(field.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if isinstance(objective, Follows):
                objective.after_step(field, step + 1)


class _Closed:
    """Flow matching with the marginal velocity in place of the pairs': no noise in the targets."""

    def __init__(self) -> None:
        self.teacher, self.plain = Frozen(oracle()), FlowMatching(PATH)

    def __call__(self, model, pair, *, step=0, generator=None):
        loss = self.plain(model, pair, step=step, generator=generator)
        x_t = PATH.sample(pair, loss.t).x_t
        value = (model(x_t, loss.t) - self.teacher(x_t, loss.t)).square().mean(dim=1)
        return type(loss)(value, pair, loss.t)


class Smooth(torch.nn.Module):
    """The network of the specification's trials: three layers of 96, smooth in time.

    Methods that differentiate it in time arrive at fewer steps, and velocity distillation beside
    them does no harm even at full weight; frequencies in a time embedding are in their way.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = [(2, 96), (96, 96), (96, 96)]
        layers = [part for size in sizes for part in (torch.nn.Linear(*size), torch.nn.SiLU())]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(96, 1))

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the output ``(b, 1)``."""
        return self.layers(torch.cat([x, t[:, None].to(x)], dim=1))


@functools.cache
def _smooth_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    field = PredictionField(Smooth(), PATH, Velocity())
    fit(field, _Closed(), 1500, 3e-3)
    return field.network.state_dict()


def smooth_student() -> SegmentField:
    """A map to the data whose smooth network starts fitted to the velocity."""
    network = Smooth()
    network.load_state_dict(_smooth_weights())
    return SegmentField(network, PATH, Velocity(), edges=(0.0, 1.0))


@functools.cache
def _teacher_weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    field = PredictionField(MLP((1,), width=64, max_frequency=10.0), PATH, Velocity())
    fit(field, _Closed(), 800, 3e-3)
    return field.network.state_dict()


def student(*, anywhere: bool = False, edges: tuple[float, ...] = (0.0, 1.0)):
    """A flow map that starts as a network fitted to the velocity."""
    network = MLP((1,), width=64, interval=anywhere, max_frequency=10.0)
    found = network.load_state_dict(_teacher_weights(), strict=False)
    assert all("interval" in name for name in found.missing_keys)
    if anywhere:
        return FlowMapField(network, PATH, Velocity())
    return SegmentField(network, PATH, Velocity(), edges=edges)
