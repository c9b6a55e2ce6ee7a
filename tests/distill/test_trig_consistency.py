"""sCM in TrigFlow's form: the published algorithm, the exact map as its zero, its relatives."""

import math

import pytest
import torch
from torch import nn

from flowgen.core import InputError, Pair
from flowgen.distill import (
    Difference,
    Eulerian,
    OfData,
    OfTeacher,
    Ramp,
    ToEdge,
    TrigConsistency,
    Uncertainty,
)
from flowgen.models import MLP, ConsistencyField, SegmentField
from flowgen.objectives import LogitNormal
from flowgen.paths import (
    VP,
    AffinePath,
    Data,
    Linear,
    Parabola,
    Polynomial,
    StochasticInterpolant,
    Trig,
    TrigFlowPrediction,
    Velocity,
    convert,
    to_trig_flow,
)
from known_students import At
from mixture_map import PATH, fit, mean_error, oracle, student
from oracles import GaussianOracle

MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])
SCHEDULES = {"linear": Linear(), "trig": Trig(), "vp": VP(), "polynomial": Polynomial(0.6)}


LATENT = StochasticInterpolant(Linear(), Parabola(0.5))


class ExactEnds(nn.Module):
    """Where the flow of an oracle leads, plus ``error`` times a smooth function that ends at 0."""

    def __init__(self, oracle, end, error=0.0):
        super().__init__()
        self.oracle, self.end = oracle, end
        self.error = nn.Parameter(torch.tensor(error, dtype=torch.float64))

    def forward(self, x, t, cond=None):
        found = self.oracle.flow(x, t, torch.full_like(t, self.end))
        return found + self.error * (1 - t)[:, None] * torch.sin(x + 2 * t[:, None])


class Smooth(nn.Module):
    """A small network in float64 of any state and time."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.inner = nn.Parameter(torch.randn(3, 8, generator=generator, dtype=torch.float64))
        self.outer = nn.Parameter(torch.randn(8, 2, generator=generator, dtype=torch.float64))

    def forward(self, x, t, cond=None):
        return torch.tanh(torch.cat([x, t[:, None]], dim=1) @ self.inner) @ self.outer


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("std", [0.5, 1.3])
def test_exact_map_has_no_push_on_any_path(name, std, generator):
    schedule = SCHEDULES[name]
    path = AffinePath(schedule)
    oracle = GaussianOracle(MEAN, COV, schedule=schedule)
    field = ConsistencyField(ExactEnds(oracle, path.domain[1]), path, Data())
    objective = TrigConsistency(path, OfTeacher(oracle), data_std=std)
    pair = oracle.sample(256, generator=generator)
    loss = objective(field, pair, generator=generator)
    assert float(loss.value.detach().max()) < 1e-14  # of pushes divided by 0.1
    assert float(loss.terms["residual"].max()) < 1e-16
    off = ConsistencyField(ExactEnds(oracle, path.domain[1], 0.3), path, Data())
    assert float(objective(off, pair, generator=generator).terms["residual"].mean()) > 1e-3


@pytest.mark.parametrize("ramp", [1.0, 0.3])
def test_push_is_that_of_the_published_algorithm(ramp, generator):
    """Algorithm 1 in its own words: one Jacobian-vector product in ``(x / d, angle)``."""
    std, inner = 0.5, Smooth()

    def trig_network(x, angle):
        return inner(x, angle)

    class OnLinear(nn.Module):
        def forward(self, x, t, cond=None):
            there = to_trig_flow(x, Linear()(t), std)
            return trig_network(there.x / std, there.angle)

    oracle = GaussianOracle(MEAN, COV)
    field = ConsistencyField(OnLinear(), PATH, TrigFlowPrediction(std))
    objective = TrigConsistency(PATH, OfTeacher(oracle), data_std=std, ramp=Ramp(0.5, end=ramp))
    pair = oracle.sample(64, generator=generator)
    loss = objective(field, pair, generator=generator)

    t = loss.t
    x_t = PATH.sample(pair, t).x_t
    angle = torch.atan2(1 - t, t * std)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    x = std * x_t / torch.hypot(t * std, 1 - t)[:, None]
    data = x_t + (1 - t)[:, None] * oracle(x_t, t)
    moving = (cos * x - data) / sin
    tangents = (cos * sin * moving / std, (cos * sin)[:, 0])
    answer, change = torch.func.jvp(trig_network, (x / std, angle), tangents)
    mismatch, rest = -(cos**2) * (std * answer - moving), -(cos * sin * x + std * change)
    push = mismatch + ramp * rest
    torch.testing.assert_close(
        loss.terms["residual"].detach(), (mismatch + rest).detach().square().mean(dim=1)
    )
    torch.testing.assert_close(loss.terms["derivative"].detach(), std * change.detach().norm(dim=1))
    short = push / (push.norm(dim=1, keepdim=True) + 0.1)
    torch.testing.assert_close(loss.terms["tangent"], push.detach().norm(dim=1))
    torch.testing.assert_close(loss.value, short.square().mean(dim=1))
    # The gradient tells the direction too: 2 (F - target) dF, the target a constant.
    (expected,) = torch.autograd.grad(
        (trig_network(x / std, angle) - (answer + short).detach()).square().mean(), inner.outer
    )
    (found,) = torch.autograd.grad(loss.total(), inner.outer)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("time", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("velocity", ["teacher", "data"])
def test_it_is_the_consistency_of_velocities_weighed_otherwise(time, velocity, generator):
    """``g = -t N g_v``, and ``dF = -N / d du``: one row's gradients differ by a factor alone."""
    std, c = 0.5, 0.1
    oracle, network = GaussianOracle(MEAN, COV), Smooth()
    source = OfTeacher(oracle) if velocity == "teacher" else OfData()
    pair = oracle.sample(1, generator=generator)
    trig = TrigConsistency(PATH, source, data_std=std, times=At(time), c=c)
    loss = trig(ConsistencyField(network, PATH, Velocity()), pair)
    native = Eulerian(PATH, ToEdge(At(time)), source)
    other = native(SegmentField(network, PATH, Velocity()), pair)

    t = float(loss.t)
    root = math.hypot(t * std, 1 - t)
    residual = (t * root) ** 2 * other.terms["residual"]
    torch.testing.assert_close(loss.terms["residual"], residual)
    length = float((2 * residual).sqrt())
    factor = t * root**2 / (std * (length + c))
    for one, two in zip(
        torch.autograd.grad(loss.total(), list(network.parameters())),
        torch.autograd.grad(other.total(), list(network.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, factor * two)


def test_pair_velocities_become_the_published_ones(generator):
    """sCT: ``dx / d angle = cos z - sin x_1``, so only the conversion of a pair is at stake."""
    std = 0.5
    pair = GaussianOracle(MEAN, COV).sample(32, generator=generator)
    t = torch.linspace(0.05, 0.95, 32, dtype=torch.float64)
    point = PATH.sample(pair, t)
    angle = to_trig_flow(point.x_t, point.coefficients, std).angle[:, None]
    target = TrigFlowPrediction(std)
    found = std * convert(point.v_t, point.x_t, point.coefficients, Velocity(), target)
    torch.testing.assert_close(found, angle.cos() * std * pair.x_0 - angle.sin() * pair.x_1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_angles_are_those_of_the_paper_on_every_path(name):
    """``arctan(e^tau / d)`` with ``tau ~ N(-1, 1.4^2)``, here of the same random numbers."""
    schedule = SCHEDULES[name]
    path, std, n = AffinePath(schedule), 0.5, 20_000
    oracle = GaussianOracle(MEAN, COV, schedule=schedule)
    field = ConsistencyField(ExactEnds(oracle, 1.0), path, Data())
    draws = [torch.Generator().manual_seed(4) for _ in range(2)]
    pair = oracle.sample(n, generator=torch.Generator().manual_seed(1))
    t = TrigConsistency(path, OfTeacher(oracle), data_std=std)._draw(field, pair, draws[0])
    tau = -torch.special.logit(LogitNormal(1.0, 1.4)(n, generator=draws[1]).double())
    angle = to_trig_flow(pair.x_1, schedule(t), std).angle
    inside = (t > path.domain[0] + 1e-3) & (t < path.domain[1] - 1e-3)
    assert float(inside.double().mean()) > 0.95
    expected = torch.arctan(tau.exp() / std)
    torch.testing.assert_close(angle[inside], expected[inside], rtol=0, atol=1e-4)
    assert float(tau.mean()) == pytest.approx(-1.0, abs=0.04)
    assert float(tau.std()) == pytest.approx(1.4, abs=0.04)


def test_a_difference_quotient_stays_inside_and_is_of_first_order(generator):
    oracle = GaussianOracle(MEAN, COV)
    field = ConsistencyField(ExactEnds(oracle, 1.0), PATH, Data())
    pair, sizes = oracle.sample(256, generator=generator), []
    for h in (0.01, 0.001):
        objective = TrigConsistency(PATH, OfTeacher(oracle), derivative=Difference(h))
        loss = objective(field, pair, generator=torch.Generator().manual_seed(1))
        assert float(loss.t.max()) <= 1 - h
        sizes.append(float(loss.terms["residual"].mean().sqrt()))
        last = TrigConsistency(PATH, OfTeacher(oracle), derivative=Difference(h), times=At(1.0))
        expected = torch.full_like(loss.t, field.domain[1] - h)
        torch.testing.assert_close(last(field, pair).t, expected)
    assert 7 < sizes[0] / sizes[1] < 13


def test_ramp_follows_the_run_and_the_weight_its_time(generator):
    """Ramps and learnt weights act as they are, at the step and at the time of each row."""
    oracle, field = GaussianOracle(MEAN, COV), ConsistencyField(Smooth(), PATH, Velocity())
    pair, teacher = oracle.sample(64, generator=generator), OfTeacher(oracle)

    def loss(step=0, **settings):
        objective = TrigConsistency(PATH, teacher, **settings)
        objective.total_steps = 10
        return objective(field, pair, step=step, generator=torch.Generator().manual_seed(1))

    for step, end in ((1, 0.2), (4, 0.8), (5, 1.0), (9, 1.0)):
        found, expected = loss(step, ramp=Ramp(0.5)), loss(ramp=Ramp(end=end))
        torch.testing.assert_close(found.value, expected.value)
        torch.testing.assert_close(found.terms["residual"], loss().terms["residual"])
    assert not torch.allclose(loss(1, ramp=Ramp(0.5)).value, loss().value)

    weigh = Uncertainty(8)
    for parameter in weigh.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    plain = loss()
    expected = weigh(plain.value, plain.t, torch.ones_like(plain.t))
    torch.testing.assert_close(loss(uncertainty=weigh).value, expected)
    assert float((expected - plain.value).abs().min()) > 0


def test_student_and_teacher_know_the_conditions_of_their_rows(generator):
    """Twice the answer and twice the velocity for label 1: each row is as if it were alone."""
    oracle = GaussianOracle(MEAN, COV)
    pair = oracle.sample(8, generator=generator)
    label = torch.arange(8) % 2

    class Labelled(Smooth):
        def forward(self, x, t, cond=None):
            return super().forward(x, t) * (1 + cond["label"][:, None])

    def teacher(x, t, cond=None):
        return oracle(x, t) * (1 + cond["label"][:, None])

    objective = TrigConsistency(PATH, OfTeacher(teacher), times=At(0.4))
    field = ConsistencyField(Labelled(), PATH, Velocity())
    value = objective(field, Pair(pair.x_0, pair.x_1, {"label": label})).value
    for number in (0, 1):
        same = Pair(pair.x_0, pair.x_1, {"label": torch.full((8,), number)})
        rows = label == number
        torch.testing.assert_close(value[rows], objective(field, same).value[rows])
        assert not torch.allclose(value[~rows], objective(field, same).value[~rows])


def test_ends_and_single_precision_stay_finite(generator):
    oracle = GaussianOracle(MEAN, COV)
    field = ConsistencyField(MLP((2,), width=16), PATH, Velocity())
    pair = oracle.sample(8, generator=generator)
    pair = type(pair)(pair.x_0.float(), pair.x_1.float())
    for time in (0.0, 1.0):
        objective = TrigConsistency(
            PATH, OfTeacher(oracle), times=At(time), uncertainty=Uncertainty(8)
        )
        loss = objective(field, pair)
        loss.total().backward()
        assert bool(loss.value.isfinite().all())
        assert all(bool(p.grad.isfinite().all()) for p in field.parameters())
        # At the data and in pure noise the weight of the push is 0.
        assert float(loss.terms["residual"].max()) < 1e-9 or time == 1.0


def test_consistency_field_is_the_identity_at_the_data(generator):
    """On a path that is not linear it is a step along the arc: ``cos x - sin d F``."""
    path, std = AffinePath(Trig()), 1.0
    field = ConsistencyField(Smooth(), path, TrigFlowPrediction(std))
    x = torch.randn(16, 2, generator=generator, dtype=torch.float64)
    s = torch.linspace(0, 1, 16, dtype=torch.float64)
    one = torch.ones_like(s)
    angle = math.pi / 2 * (1 - s)[:, None]
    end = x + (1 - s)[:, None] * field.mean_velocity(x, s, one)
    torch.testing.assert_close(end, angle.cos() * x - angle.sin() * Smooth()(x, s))
    torch.testing.assert_close(end[-1], x[-1])
    linear = ConsistencyField(Smooth(), PATH, Velocity())
    chord = SegmentField(Smooth(), PATH, Velocity())
    inside = s.clamp(max=0.999)
    torch.testing.assert_close(
        linear.mean_velocity(x, inside, one), chord.mean_velocity(x, inside, one)
    )


def test_refuses_what_has_no_angle_or_is_no_such_map(generator):
    oracle = GaussianOracle(MEAN, COV)
    pair = oracle.sample(4, generator=generator)
    with pytest.raises(InputError, match="ConsistencyField"):
        TrigConsistency(PATH, OfData())(SegmentField(Smooth(), PATH, Velocity()), pair)
    with pytest.raises(InputError, match="noise of its own"):
        TrigConsistency(LATENT, OfData())
    with pytest.raises(InputError, match="noise of its own"):
        ConsistencyField(Smooth(), LATENT, Velocity())
    with pytest.raises(InputError, match="says nothing of the data at an end of Polynomial"):
        ConsistencyField(Smooth(), AffinePath(Polynomial(2.0)), Velocity())
    with pytest.raises(InputError, match="c must be"):
        TrigConsistency(PATH, OfData(), c=0.0)
    with pytest.raises(InputError, match="data_std"):
        TrigConsistency(PATH, OfData(), data_std=-1.0)


@pytest.mark.slow
def test_student_arrives_where_the_flow_does():
    start = student()
    field = ConsistencyField(start.network, PATH, Velocity())
    assert mean_error(field) > 0.5
    objective = TrigConsistency(
        PATH, OfTeacher(oracle()), ramp=Ramp(0.3), uncertainty=Uncertainty(16)
    )
    fit(field, objective, 500, 2e-3)
    assert mean_error(field) < 0.15
