"""Students of a known mixture, trained for a minute: their samples have its law."""

import copy
import functools

import pytest
import torch

from flowgen.core import Pair
from flowgen.distill import (
    Adversary,
    Critic,
    DensityRatio,
    DistributionMatching,
    Eulerian,
    Normalised,
    OfTeacher,
    Part,
    Ramp,
    ToEdge,
    Together,
    VelocityDistillation,
)
from flowgen.models import MLP, PredictionField, SegmentField
from flowgen.paths import AffinePath, Linear, Velocity
from flowgen.training.critic import critic_of
from oracles import MixtureOracle
from unchecked import checked_at_first

PATH = AffinePath(Linear())
WEIGHTS, MEANS = torch.tensor([0.3, 0.7]), torch.tensor([-2.0, 1.5])
STDS = torch.tensor([0.3, 0.6])
ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def velocity(x, t, cond=None):
    """The mixture's velocity in float32: the oracle's, which it is compared with, is slow."""
    t = t[:, None]
    variances = (1 - t) ** 2 + (t * STDS) ** 2
    away = x - t * MEANS
    shares = (WEIGHTS.log() - 0.5 * (away**2 / variances + variances.log())).softmax(dim=1)
    each = MEANS + (t * STDS**2 - (1 - t)) / variances * away
    return (shares * each).sum(dim=1, keepdim=True)


def pairs(n, generator):
    first = torch.rand(n, generator=generator) < WEIGHTS[0]
    noise = torch.randn(n, 2, generator=generator)
    x_1 = torch.where(first, MEANS[0] + STDS[0] * noise[:, 0], MEANS[1] + STDS[1] * noise[:, 0])
    return Pair(noise[:, 1:].clone(), x_1[:, None])


@pytest.fixture(scope="module")
def teacher():
    """A network that knows the velocity well, as a distillation begins with."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    field = PredictionField(MLP((1,), width=64, max_frequency=10.0), PATH, Velocity())
    optimizer = torch.optim.Adam(field.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    for step in range(1000):
        with checked_at_first(step):
            pair = pairs(256, generator)
            t = torch.rand(256, generator=generator)
            x = PATH.sample(pair, t).x_t
            optimizer.zero_grad()
            (field(x, t) - velocity(x, t)).square().mean().backward()
            optimizer.step()
            schedule.step()
    return field


def student_of(teacher):
    return SegmentField(copy.deepcopy(teacher.network), PATH, Velocity())


def trained(objective, student, steps, lr):
    """Return the averaged student, with the critic's steps in turns as in a run."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(student.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    critic = critic_of(objective, 1)
    average = copy.deepcopy(student)
    if hasattr(objective, "total_steps"):
        objective.total_steps = steps
    for step in range(steps):
        with checked_at_first(step):
            pair = pairs(256, generator)
            optimizer.zero_grad()
            objective(student, pair, step=step, generator=generator).total().backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            for mean, value in zip(average.parameters(), student.parameters(), strict=True):
                mean.data.lerp_(value.data, 0.01)
            if critic is not None:
                follow(objective, student, critic, pair, step, generator)
    return average


def follow(objective, student, critic, pair, step, generator):
    objective.critic.requires_grad_(True)
    for _ in range(objective.critic_steps):
        critic.optimizer.zero_grad()
        loss = objective.critic_loss(student, pair, step=step, generator=generator)
        loss.total().backward()
        critic.optimizer.step()
    objective.critic.requires_grad_(False)


@torch.no_grad()
def ends(student, x, nodes=(0.0,)):
    generator = torch.Generator().manual_seed(2)
    for i, s in enumerate(nodes):
        times = torch.full((len(x),), s)
        data = x + (1 - s) * student.mean_velocity(x, times, torch.ones_like(times))
        if i + 1 < len(nodes):
            noise = torch.randn(x.shape, generator=generator)
            x = nodes[i + 1] * data + (1 - nodes[i + 1]) * noise
    return data


def distance(student, nodes=(0.0,)):
    """The 1-Wasserstein distance of samples and data, 0.01 to 0.02 for two sets of data."""
    n = 20_000
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(3))
    data = pairs(n, torch.Generator().manual_seed(4)).x_1
    found = ends(student, x, nodes).flatten().sort().values
    return float((found - data.flatten().sort().values).abs().mean())


def test_the_velocity_is_that_of_the_oracle(generator):
    oracle = MixtureOracle(WEIGHTS, MEANS[:, None], STDS)
    x, t = 2 * torch.randn(50, 1, generator=generator), torch.rand(50, generator=generator)
    torch.testing.assert_close(velocity(x, t), oracle(x, t), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_one_step_of_the_teacher_is_poor(teacher):
    assert distance(student_of(teacher)) > 0.5


@pytest.mark.slow
def test_distribution_matching(teacher):
    objective = DistributionMatching(PATH, velocity, Critic(teacher), critic_optimizer=ADAM)
    assert distance(trained(objective, student_of(teacher), 600, 3e-4)) < 0.2


@pytest.mark.slow
def test_distribution_matching_for_the_forward_divergence(teacher):
    objective = DistributionMatching(
        PATH,
        velocity,
        Critic(teacher, layer="out"),
        critic_optimizer=ADAM,
        adversary=Adversary(weight=3e-3, of_critic=1e-2),
        density_ratio=DensityRatio(),
    )
    assert distance(trained(objective, student_of(teacher), 500, 3e-4)) < 0.2


@pytest.mark.slow
def test_distribution_matching_in_several_steps(teacher):
    """Each number of steps is good, which a critic of the mixture over nodes does not give."""
    nodes = (0.0, 0.5)
    objective = DistributionMatching(
        PATH, velocity, Critic(teacher, nodes=2), critic_optimizer=ADAM, nodes=nodes
    )
    student = trained(objective, student_of(teacher), 600, 3e-4)
    assert distance(student) < 0.3
    assert distance(student, nodes) < 0.2


@pytest.mark.slow
def test_velocity_distillation_does_no_harm(teacher):
    matching = Part(
        Eulerian(PATH, ToEdge(), OfTeacher(velocity), tangent=Normalised(0.1, Ramp(0.5)))
    )
    distillation = Part(
        VelocityDistillation(PATH, velocity, tangent=Normalised(0.1)), weight=0.1, after=0.67
    )

    def end(**parts):
        return distance(trained(Together(parts), student_of(teacher), 2400, 1e-3))

    # Half of the steps end at 0.24 on some machines, with and without it; these far below on all.
    alone, both = end(matching=matching), end(matching=matching, distillation=distillation)
    assert both < 0.2
    assert both < alone + 0.05
