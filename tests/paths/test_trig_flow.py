"""The border to TrigFlow's formulas: coordinates, network target, and the change of schedule."""

import math

import pytest
import torch

from flowgen.core import InputError, Pair
from flowgen.paths import (
    EDM,
    VP,
    AffinePath,
    EDMPrediction,
    Linear,
    Polynomial,
    Rescheduled,
    SalimansV,
    ToTrigFlow,
    Trig,
    TrigFlowPrediction,
    Velocity,
    convert,
    to_trig_flow,
)
from oracles import GaussianOracle

SCHEDULES = [Linear(), Trig(), VP(), EDM(), Polynomial(0.6)]


def test_golden_point_of_a_gaussian():
    """Data N(2, 0.5^2) on the linear path, data_std 0.5, x = -0.3 at t = 0.35, by hand."""
    x, t = (torch.tensor(value, dtype=torch.float64) for value in ([[-0.3]], [0.35]))
    c = Linear()(t)
    there = to_trig_flow(x, c, 0.5)
    v = GaussianOracle(torch.tensor([2.0]), torch.tensor([[0.25]]))(x, t)
    answer = convert(v, x, c, Velocity(), TrigFlowPrediction(0.5))
    assert float(v) == pytest.approx(2 + 0.5625 / 0.453125, abs=1e-12)
    root = math.hypot(0.175, 0.65)
    assert float(there.angle) == pytest.approx(math.atan2(0.65, 0.175), abs=1e-12)
    assert float(there.angle) == pytest.approx(1.30780, abs=1e-5)
    assert float(there.x) == pytest.approx(-0.15 / root, abs=1e-12)
    # d F = (cos x - E[x_1]) / sin with E[x_1] = x_t + (1 - t) v
    data = -0.3 + 0.65 * float(v)
    expected = (0.175 / root * -0.15 / root - data) / (0.65 / root) / 0.5
    assert float(answer) == pytest.approx(expected, abs=1e-12)
    assert float(answer) == pytest.approx(-3.86246, abs=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_pair_is_where_trig_flow_puts_it(schedule, generator):
    path, std = AffinePath(schedule), 0.7
    x_0, x_1 = torch.randn(2, 64, 3, generator=generator, dtype=torch.float64)
    low, high = path.domain
    t = low + (high - low) * torch.linspace(0, 1, 64, dtype=torch.float64)
    point = path.sample(Pair(x_0, x_1), t)
    there = to_trig_flow(point.x_t, point.coefficients, std)
    cos, sin = there.angle.cos()[:, None], there.angle.sin()[:, None]
    torch.testing.assert_close(there.x, cos * x_1 + sin * std * x_0)
    # The velocity of the pair becomes d x / d angle, over std.
    answer = convert(point.v_t, point.x_t, point.coefficients, Velocity(), TrigFlowPrediction(std))
    torch.testing.assert_close(std * answer, cos * std * x_0 - sin * x_1)


@pytest.mark.parametrize("schedule", [Linear(), VP(), Polynomial(2.0)])
def test_single_points_agree_with_the_change_of_a_whole_schedule(schedule, generator):
    mean, cov = torch.tensor([2.0, -1.0]), torch.tensor([[0.25, 0.1], [0.1, 0.5]])
    oracle = GaussianOracle(mean, cov, schedule=schedule)
    whole = ToTrigFlow(Rescheduled(oracle, schedule, Trig()))
    x = torch.randn(32, 2, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.05, 0.95, 32, dtype=torch.float64)
    c = schedule(t)
    there = to_trig_flow(x, c, 1.0)
    answer = convert(oracle(x, t), x, c, Velocity(), TrigFlowPrediction(1.0))
    torch.testing.assert_close(answer, whole(there.x, there.angle), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_pace_is_the_derivative_of_the_angle(schedule):
    low, high = schedule.domain
    t = (low + (high - low) * torch.linspace(0.02, 0.98, 25, dtype=torch.float64)).requires_grad_()
    there = to_trig_flow(torch.ones(25, 1).double(), schedule(t), 0.6)
    (slope,) = torch.autograd.grad(there.angle.sum(), t)
    torch.testing.assert_close(there.dt * slope, there.cos * there.sin)
    ends = to_trig_flow(torch.ones(2, 1).double(), schedule(torch.tensor([low, high]).double()), 1)
    assert bool(ends.dt.isfinite().all())


def test_it_is_the_target_of_others_by_another_name():
    c = Trig()(torch.linspace(0, 1, 9, dtype=torch.float64))
    for ours, theirs in zip(TrigFlowPrediction(1.0)(c), SalimansV()(c), strict=True):
        torch.testing.assert_close(ours, theirs)
    c = Linear()(torch.linspace(0, 1, 9, dtype=torch.float64))
    for ours, theirs in zip(TrigFlowPrediction(0.4)(c), EDMPrediction(0.4)(c), strict=True):
        torch.testing.assert_close(ours, -theirs)


@pytest.mark.parametrize("std", [0.0, -1.0, math.inf, math.nan])
def test_scale_must_be_positive(std):
    with pytest.raises(InputError, match="data_std must be positive"):
        TrigFlowPrediction(std)
