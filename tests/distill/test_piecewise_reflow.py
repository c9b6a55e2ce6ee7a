"""Chords of windows: exact with an exact solver, and enough for one Euler step each."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from flow_maps import ExactMap
from flowgen.core import InputError, Pair
from flowgen.distill import PiecewiseReflow, Windowed
from flowgen.integrators import Adaptive, Euler, EulerMaruyama, Explicit, Heun, Sampler, Uniform
from flowgen.metrics import rmse
from flowgen.models import MLP, PredictionField, last_edge, next_edge
from flowgen.objectives import LogitNormal
from flowgen.paths import AffinePath, Data, Linear, Trig, Velocity
from oracles import GaussianOracle

PATH = AffinePath(Linear())
MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])
EDGES = (0.0, 0.2, 0.5, 1.0)
FINE = Sampler(Heun(), Uniform(), 100)


class Chords(nn.Module):
    """The exact piecewise straight flow: from a state on a chord its chord's velocity.

    The map of a Gaussian is affine in x, so the chord through a state is found by solving for where
    it begins. ``error`` times a smooth function is added.
    """

    def __init__(self, oracle, edges=EDGES):
        super().__init__()
        self.oracle, self.lines = oracle, edges
        self.error = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, t, cond=None):
        flat = x.reshape(len(x), -1)
        begin, end = last_edge(self.lines, t), next_edge(self.lines, t)

        def chord(start):
            ends = self.oracle.flow(start.reshape(x.shape), begin, end).reshape(flat.shape)
            return (ends - start) / (end - begin)[:, None]

        def reached(start):
            return start + (t - begin)[:, None] * chord(start)

        zero = torch.zeros_like(flat)
        units = torch.eye(flat.shape[1]).double()
        matrix = torch.stack([reached(zero + u) - reached(zero) for u in units], dim=2)
        start = torch.linalg.solve(matrix, flat - reached(zero))
        wrong = self.error * torch.sin(flat + t[:, None])
        return (chord(start) + wrong).reshape(x.shape)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
@pytest.mark.parametrize("schedule", [Linear(), Trig()])
def test_target_is_the_exact_mean_velocity_of_the_window(schedule, shape, generator):
    oracle = GaussianOracle(MEAN, COV, schedule=schedule, shape=shape)
    objective = PiecewiseReflow(AffinePath(schedule), oracle, sampler=FINE, edges=EDGES)
    begin = torch.tensor([0.0, 0.2, 0.5] * 20).double()
    end = next_edge(EDGES, begin)
    x = AffinePath(schedule).sample(oracle.sample(60, generator=generator), begin).x_t
    u = ExactMap(oracle).mean_velocity(x, begin, end)
    torch.testing.assert_close(objective.chord(x, begin, end), u, atol=2e-4, rtol=0)


class Given:
    """Times that are no draws."""

    def __init__(self, t):
        self.t = t

    def __call__(self, n, *, generator=None, device=None):
        return self.t

    def density(self, t):
        return torch.ones_like(t)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
@pytest.mark.parametrize("schedule", [Linear(), Trig()])
def test_target_is_one_mean_velocity_all_along_the_chord(schedule, shape, generator):
    """With a solver exact to rounding: of the state and of the target at any share of a window."""
    path, stepper = AffinePath(schedule), Adaptive("dopri8", rtol=1e-12, atol=1e-12)
    solver = Sampler(stepper, Uniform(), 1)
    oracle = GaussianOracle(MEAN, COV, schedule=schedule, shape=shape)
    pair = oracle.sample(30, generator=generator)
    begin = torch.tensor([0.0, 0.2, 0.5] * 10, dtype=torch.float64)
    end = next_edge(EDGES, begin)
    start = path.sample(pair, begin).x_t
    u = ExactMap(oracle).mean_velocity(start, begin, end)

    class Sees(nn.Module):
        def forward(self, x, t, cond=None):
            seen.append(x)
            return u + 1

    seen: list = []
    for share in (0.0, 0.3, 0.9):
        t = begin + share * (end - begin)
        objective = PiecewiseReflow(path, oracle, sampler=solver, edges=EDGES, times=Given(t))
        loss = objective(Sees(), pair)
        torch.testing.assert_close(loss.value, torch.ones(30).double(), rtol=0, atol=2e-9)
        away = (t - begin).view(-1, *[1] * len(shape))
        torch.testing.assert_close(seen[-1], start + away * u, rtol=0, atol=1e-9)
        torch.testing.assert_close(objective.chord(start, begin, end), u, rtol=0, atol=1e-9)


def test_solver_in_windows_is_of_its_own_order(generator):
    """Each row takes its steps in its own window: halving them divides Heun's error by 4."""
    oracle = GaussianOracle(MEAN, COV)
    begin = torch.tensor([0.0, 0.2, 0.5] * 20).double()
    end = next_edge(EDGES, begin)
    x = PATH.sample(oracle.sample(60, generator=generator), begin).x_t
    u = ExactMap(oracle).mean_velocity(x, begin, end)
    errors = []
    for n in (8, 16):
        solver = Sampler(Heun(), Uniform(), n)
        objective = PiecewiseReflow(PATH, oracle, sampler=solver, edges=EDGES)
        errors.append(rmse(objective.chord(x, begin, end), u))
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_time_inside_a_window_is_scaled(generator):
    seen = []

    def field(x, t, cond=None):
        seen.append(t)
        return x * 0 + t[:, None]

    begin, end = torch.tensor([0.0, 0.5]).double(), torch.tensor([0.5, 0.75]).double()
    x = torch.zeros(2, 3).double()
    half = torch.full((2,), 0.5).double()
    v = Windowed(field, begin, end)(x, half)
    torch.testing.assert_close(seen[0], torch.tensor([0.25, 0.625]).double())
    torch.testing.assert_close(v[:, 0], torch.tensor([0.5 * 0.25, 0.25 * 0.625]).double())


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
def test_exact_chords_have_no_loss_and_errors_have_a_gradient(shape, generator):
    oracle = GaussianOracle(MEAN, COV, shape=shape)
    objective = PiecewiseReflow(PATH, oracle, sampler=FINE, edges=EDGES)
    pair = oracle.sample(128, generator=generator)
    student = Chords(oracle)
    loss = objective(student, pair, generator=generator)
    assert float(loss.value.detach().max()) < 1e-7  # the square of what 100 Heun steps miss
    assert len(loss.t.unique()) == 128
    for error, sign in ((0.2, 1), (-0.2, -1)):
        student.error.data.fill_(error)
        student.zero_grad()
        objective(student, pair, generator=generator).total().backward()
        assert sign * float(student.error.grad) > 0


@pytest.mark.parametrize("multiple", [1, 2, 5])
def test_as_many_euler_steps_as_windows_or_a_multiple_follow_the_flow(multiple, generator):
    oracle = GaussianOracle(MEAN, COV)
    x_0 = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    nodes = [a + (b - a) * i / multiple for a, b in pairwise(EDGES) for i in range(multiple)] + [
        1.0
    ]
    sampler = Sampler(Euler(), Explicit(nodes), len(nodes) - 1)
    zero, one = torch.zeros(64).double(), torch.ones(64).double()
    end = sampler.sample(Chords(oracle), x_0)
    torch.testing.assert_close(end, oracle.flow(x_0, zero, one), atol=1e-9, rtol=0)


def test_one_window_is_reflow_from_noise(generator):
    """With edges 0 and 1 the state at the begin is the source, and the target ``x_1' - x_0``."""
    oracle = GaussianOracle(MEAN, COV)
    pair = oracle.sample(32, generator=generator)
    seen = {}

    class Sees(nn.Module):
        def forward(self, x, t, cond=None):
            seen["x"], seen["t"] = x, t
            return torch.zeros_like(x)

    objective = PiecewiseReflow(PATH, oracle, sampler=FINE, edges=(0.0, 1.0), times=LogitNormal())
    loss = objective(Sees(), pair, generator=generator)
    zero, one = torch.zeros(32).double(), torch.ones(32).double()
    end = oracle.flow(pair.x_0, zero, one)
    t = seen["t"][:, None]
    torch.testing.assert_close(seen["x"], (1 - t) * pair.x_0 + t * end, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        loss.value, (end - pair.x_0).square().mean(dim=1), atol=1e-3, rtol=1e-4
    )


def test_weights_of_the_pairs_act_and_conditions_go_along(generator):
    labels = []

    def teacher(x, t, cond=None):
        labels.append(cond["label"])
        return cond["label"].to(x)[:, None].expand(x.shape)

    class Zero(nn.Module):
        def forward(self, x, t, cond=None):
            assert cond is not None
            return torch.zeros_like(x)

    x = torch.randn(2, 4, 2, generator=generator)
    weight = torch.tensor([0.0, 2.0, 1.0, 1.0])
    pair = Pair(x[0], x[1], {"label": torch.tensor([3, 1, 2, 0])}, weight)
    solver = Sampler(Euler(), Uniform(), 2)
    loss = PiecewiseReflow(PATH, teacher, sampler=solver, edges=(0.0, 0.5, 1.0))(Zero(), pair)
    torch.testing.assert_close(loss.value, torch.tensor([9.0, 1.0, 4.0, 0.0]))
    assert float(loss.total()) == pytest.approx((2 * 1 + 4) / 4)
    assert all(torch.equal(label, pair.cond["label"]) for label in labels)


def test_times_stay_where_the_teacher_is_finite(generator):
    """A teacher in data prediction is singular at the data: the last window ends before."""
    teacher = PredictionField(MLP((2,), width=8), PATH, Data(), t_eps=0.01)
    student = PredictionField(MLP((2,), width=8), PATH, Velocity())
    objective = PiecewiseReflow(
        PATH, teacher, sampler=Sampler(Heun(), Uniform(), 2), edges=(0.0, 0.5, 1.0)
    )
    x = torch.randn(2, 512, 2, generator=generator)
    loss = objective(student, Pair(x[0], x[1]), generator=generator)
    assert bool(loss.value.isfinite().all())
    assert float(loss.t.max()) < 0.9901
    loss.total().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())
    with pytest.raises(InputError, match="no window"):
        PiecewiseReflow(
            PATH, teacher, sampler=Sampler(Heun(), Uniform(), 2), edges=(0.0, 0.995, 1.0)
        )(student, Pair(x[0], x[1]))


def test_refusals(generator):
    oracle = GaussianOracle(MEAN, COV)
    with pytest.raises(InputError, match="needs a teacher"):
        PiecewiseReflow(PATH, None, sampler=FINE, edges=EDGES)
    with pytest.raises(InputError, match="edges must rise"):
        PiecewiseReflow(PATH, oracle, sampler=FINE, edges=(0.0, 0.5))
    noisy = Sampler(EulerMaruyama(), Uniform(), 2)
    with pytest.raises(InputError, match="draws noise"):
        PiecewiseReflow(PATH, oracle, sampler=noisy, edges=EDGES)
    objective = PiecewiseReflow(PATH, oracle, sampler=FINE, edges=EDGES)
    pair = oracle.sample(8, generator=generator)
    with pytest.raises(InputError, match="leads to the edges"):
        objective(ExactMap(oracle, (0.0, 1.0)), pair)
