"""Samples are moved where the divergence falls, and stay where they are once they are data."""

import functools
import math

import pytest
import torch

from flowgen.core import InputError, Pair
from flowgen.distill import (
    Adversarial,
    Adversary,
    Critic,
    DensityRatio,
    DistributionMatching,
    Frozen,
    Logistic,
    Regression,
    Relativistic,
)
from flowgen.integrators import Euler, Heun, Renoise, Sampler, Uniform
from flowgen.models import MLP, PredictionField, SegmentField
from flowgen.paths import AffinePath, Linear, Trig, Velocity
from known_students import AffineStudent, At, OracleField, gaussian
from oracles import GaussianOracle

PATH = AffinePath(Linear())
MEAN, STD = 2.0, 0.5
ADAM = functools.partial(torch.optim.Adam, lr=1e-3)


def empty(n, shape=(1,)):
    zeros = torch.zeros(n, *shape, dtype=torch.float64)
    return Pair(zeros, zeros)


def matching(teacher, samples, **settings):
    """Distribution matching with a critic that knows the law of the samples."""
    return DistributionMatching(
        PATH, teacher, Critic(OracleField(samples)), critic_optimizer=ADAM, **settings
    )


def divergence(scale, shift):
    ratio = (scale / STD) ** 2
    return 0.5 * (ratio + ((shift - MEAN) / STD) ** 2 - 1 - math.log(ratio))


def test_the_gradient_is_the_formula(generator):
    """``(1 - t)(v_samples - v_teacher) / mean |x - x1hat|`` on the linear path."""
    shape = (1, 2, 2)
    mean, other = torch.linspace(-1, 2, 4), torch.zeros(4)
    teacher = GaussianOracle(mean, 0.3 * torch.eye(4), shape=shape)
    samples = GaussianOracle(other, 0.8 * torch.eye(4), shape=shape)
    objective = matching(teacher, samples, times=At(0.6), margin=0.0)

    class Kept(AffineStudent):
        def mean_velocity(self, x, s, t, cond=None):
            found = super().mean_velocity(x, s, t, cond)
            found.retain_grad()
            seen.append((x, found))
            return found

    seen: list = []
    draws = torch.Generator().manual_seed(4)
    loss = objective(Kept(0.9, 0.2), empty(6, shape), generator=draws)
    loss.total().backward()
    [(z, u)] = seen
    x = (z + u).detach()
    draws = torch.Generator().manual_seed(4)
    assert torch.equal(torch.randn(6, *shape, generator=draws, dtype=torch.float64), z)
    t = torch.full((6,), 0.6, dtype=torch.float32).double()
    x_t = 0.4 * torch.randn(6, *shape, generator=draws, dtype=torch.float64) + 0.6 * x
    v_samples, v_teacher = samples(x_t, t), teacher(x_t, t)
    real = x_t + 0.4 * v_teacher
    scale = (x - real).abs().mean(dim=(1, 2, 3))[:, None, None, None]
    push = 0.4 * (v_samples - v_teacher) / scale
    torch.testing.assert_close(u.grad, push / push[0].numel() / 6, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(
        loss.value.detach(), 0.5 * push.square().mean(dim=(1, 2, 3)), rtol=1e-5, atol=1e-8
    )


@pytest.mark.parametrize(
    ("scale", "shift"), [(0.8, 2.0), (0.3, 2.0), (0.5, 2.6), (0.5, 1.2), (0.9, 1.0), (0.3, 2.5)]
)
def test_a_step_down_lowers_the_divergence(scale, shift):
    student = AffineStudent(scale, shift)
    objective = matching(gaussian(MEAN, STD), gaussian(shift, scale))
    generator = torch.Generator().manual_seed(0)
    objective(student, empty(20_000), generator=generator).total().backward()
    gradient = [float(student.scale.grad), float(student.shift.grad)]
    size = math.hypot(*gradient)
    after = [p - 0.05 * g / size for p, g in zip((scale, shift), gradient, strict=True)]
    assert divergence(*after) < divergence(scale, shift)
    if scale == STD or shift == MEAN:
        # Only one of the two is wrong: its sign alone decides.
        wrong = gradient[0] * (scale - STD) + gradient[1] * (shift - MEAN)
        assert wrong > 0


@pytest.mark.parametrize("path", [PATH, AffinePath(Trig())], ids=["linear", "trig"])
def test_nothing_moves_once_samples_are_data(path, generator):
    mean, cov = torch.tensor([MEAN]), torch.tensor([[STD**2]]).double()
    oracle = GaussianOracle(mean, cov, schedule=path.schedule)
    objective = DistributionMatching(
        path, oracle, Critic(OracleField(oracle)), critic_optimizer=ADAM
    )
    student = AffineStudent(STD, MEAN)
    loss = objective(student, empty(64), generator=generator)
    loss.total().backward()
    assert float(loss.value.detach().max()) == 0.0
    assert float(student.scale.grad) == float(student.shift.grad) == 0.0


def test_the_critic_is_least_at_the_velocity_of_the_samples(generator):
    """A regression of pair velocities on the law of the student, to which it gives no gradient."""
    student = AffineStudent(0.8, 1.2)
    samples = gaussian(1.2, 0.8)
    objective = matching(gaussian(MEAN, STD), samples, critic_times=At(0.4))
    n = 40_000
    loss = objective.critic_loss(student, empty(n), generator=generator)
    assert not loss.value.requires_grad
    # Given x_t the pair velocity scatters by Var(x_1 - x_0 | x_t) around the marginal one.
    spread = 0.4**2 * 0.64 + 0.36
    least = 0.64 + 1 - (0.4 * 0.64 - 0.6) ** 2 / spread
    error = float(loss.value.std()) / n**0.5
    assert float(loss.value.mean()) == pytest.approx(least, abs=4 * error)


def network_parts(**settings):
    torch.manual_seed(0)
    field = PredictionField(MLP((2,), 3, width=16), PATH, Velocity())
    torch.nn.init.normal_(field.network.out.weight, std=0.3)
    student = SegmentField(MLP((2,), 3, width=16), PATH, Velocity())
    student.load_state_dict(field.state_dict())
    critic = Critic(field, layer="out")
    torch.nn.init.normal_(critic.head.out.weight)
    return field, student, critic


def batch(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n, 2, generator=generator)
    return Pair(x[0], x[1] + 1, {"label": torch.arange(n) % 3})


@pytest.mark.parametrize("contest", [Logistic(), Relativistic()])
def test_a_contest_reaches_the_student_through_the_critic(contest, generator):
    field, student, critic = network_parts()
    adversary = Adversary(contest, weight=0.5)
    objective = Adversarial(PATH, critic, adversary, critic_optimizer=ADAM)
    loss = objective(student, batch(), generator=generator)
    torch.testing.assert_close(loss.value, 0.5 * loss.terms["contest"])
    loss.total().backward()
    assert float(student.network.out.weight.grad.abs().sum()) > 0
    assert all(p.grad is None for p in critic.parameters())
    before = float(loss.total())
    with torch.no_grad():
        for parameter in student.parameters():
            parameter -= 0.1 * (0 if parameter.grad is None else parameter.grad)
    after = objective(student, batch(), generator=torch.Generator().manual_seed(0))
    assert float(after.total()) < before


def test_the_critic_learns_to_tell_them_apart():
    """Its mean logit is higher on data after a few steps, and its loss is the sum that is asked."""
    field, student, critic = network_parts()
    torch.nn.init.zeros_(critic.head.out.weight)
    adversary = Adversary(Logistic(), of_critic=0.3, smoothness=2.0)
    objective = DistributionMatching(
        PATH, field, critic, critic_optimizer=ADAM, adversary=adversary
    )
    critic.requires_grad_(True)
    optimizer = objective.critic_optimizer(critic.parameters())
    gaps = []
    for i in range(60):
        loss = objective.critic_loss(
            student, batch(64, i), generator=torch.Generator().manual_seed(i)
        )
        optimizer.zero_grad()
        loss.total().backward()
        optimizer.step()
        gaps.append(float(loss.terms["logits"].mean()))
        rest = loss.value - loss.terms["velocity"] - 0.3 * loss.terms["contest"]
        assert (rest >= -1e-6).all()
    assert float(rest.max()) > 0  # the bend of the logits
    assert gaps[0] == 0.0
    assert sum(gaps[-10:]) / 10 > 0.1
    assert all(p.grad is None for p in student.parameters())


def test_weights_of_samples_change_the_gradient_alone(generator):
    """A density ratio with an adversary of no weight: the push of each row, times its weight."""
    field, student, critic = network_parts()
    torch.nn.init.normal_(critic.field.network.out.weight)
    adversary = Adversary(weight=0.0)
    losses = [
        DistributionMatching(
            PATH, field, critic, critic_optimizer=ADAM, adversary=adversary, density_ratio=ratio
        )(student, batch(40), generator=torch.Generator().manual_seed(2))
        for ratio in (None, DensityRatio(num_bins=1))
    ]
    plain, weighed = (loss.terms["gradient"] for loss in losses)
    weights = weighed / plain
    assert float(weights.mean()) == pytest.approx(1.0, rel=1e-4)
    assert float(weights.std()) > 0.05
    assert "contest" not in losses[0].terms
    torch.testing.assert_close(losses[1].value, 0.5 * weighed.square())


def test_regression_pulls_to_the_ends_of_the_teacher(generator):
    oracle = gaussian(MEAN, STD)
    pair = oracle.sample(8, generator=generator)
    sampler = Sampler(Heun(), Uniform(), 64)
    regression = Regression(sampler, weight=0.5, share=0.5)
    exact = regression(AffineStudent(STD, MEAN), Frozen(oracle), PATH, pair)
    assert exact.shape == (4,)
    assert float(exact.detach().max()) < 1e-6  # of Heun's method
    away = regression(AffineStudent(STD, MEAN + 0.3), Frozen(oracle), PATH, pair)
    torch.testing.assert_close(away.detach(), torch.full((4,), 0.09).double(), rtol=1e-2, atol=0)

    ends = Pair(pair.x_0, MEAN + STD * pair.x_0)
    stored = Regression(weight=0.5, share=1.0)(AffineStudent(STD, MEAN), Frozen(oracle), PATH, ends)
    assert float(stored.detach().max()) < 1e-20

    shares = [
        matching(oracle, oracle, regression=Regression(sampler, weight=0.5, share=share))(
            AffineStudent(STD, MEAN + 0.3), pair, generator=torch.Generator().manual_seed(0)
        )
        for share in (0.25, 1.0)
    ]
    few, all_of = (float((loss.total() - 0).detach()) for loss in shares)
    # Whatever the share, the mean over the batch estimates the same regression.
    assert few == pytest.approx(all_of, rel=0.05)


def test_refuses_parts_that_do_not_fit():
    field, _, critic = network_parts()
    headless = Critic(field)
    with pytest.raises(InputError, match="critic with a head"):
        Adversarial(PATH, headless, Adversary(), critic_optimizer=ADAM)
    with pytest.raises(InputError, match="relativistic"):
        DistributionMatching(
            PATH,
            field,
            critic,
            critic_optimizer=ADAM,
            adversary=Adversary(Relativistic()),
            density_ratio=DensityRatio(),
        )
    with pytest.raises(InputError, match="critic_steps"):
        DistributionMatching(PATH, field, headless, critic_optimizer=ADAM, critic_steps=0)
    with pytest.raises(InputError, match="margin"):
        DistributionMatching(PATH, field, headless, critic_optimizer=ADAM, margin=0.5)
    with pytest.raises(InputError, match="weight"):
        Regression(weight=0.0)
    with pytest.raises(InputError, match="share"):
        Regression(share=0.0)
    with pytest.raises(InputError, match="no noise"):
        Regression(Sampler(Renoise(), Uniform(), 4))
    assert Regression(Sampler(Euler(), Uniform(), 4)).weight == 0.25
