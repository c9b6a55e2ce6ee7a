"""Rectified flow: what one and two rounds are, exactly; and pairs of a teacher's flow."""

import math

import pytest
import torch
from torch import nn

from flowgen.core import Follows, InputError, Loss, Pair, Prepared, Scheduled
from flowgen.couplings import Independent
from flowgen.distill import Reflow
from flowgen.integrators import Euler, EulerMaruyama, Heun, Sampler, Uniform, trajectory
from flowgen.metrics import path_statistics
from flowgen.models import MLP, Guided, PredictionField
from flowgen.objectives import Discrete, FlowMatching
from flowgen.paths import AffinePath, Linear, Trig, Velocity
from known_students import gaussian
from oracles import GaussianOracle, MixtureOracle

PATH = AffinePath(Linear())
MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])
FINE = Sampler(Heun(), Uniform(), 100)


class SecondRound(nn.Module):
    """The velocity after one exact reflow from N(0, 1) to N(m, s^2): straight lines."""

    def __init__(self, m: float, s: float) -> None:
        super().__init__()
        self.m, self.s = m, s
        self.error = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, t, cond=None):
        t = t[:, None]
        slope = (self.s - 1) / (1 - t + t * self.s)
        return self.m + slope * (x - t * self.m) + self.error * torch.sin(x + 2 * t)


class Keeps:
    """An objective that keeps the pairs it is given."""

    def __call__(self, model, pair, *, step=0, generator=None):
        self.pair = pair
        return Loss(torch.zeros(len(pair)), pair, torch.zeros(len(pair)))


def test_one_euler_step_of_the_first_round_is_the_mean_of_the_data(generator):
    oracle = GaussianOracle(MEAN, COV)
    x_0 = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    end = Sampler(Euler(), Uniform(), 1).sample(oracle, x_0)
    assert float((end - MEAN).abs().max()) < 1e-12


def test_velocity_is_the_mean_velocity_of_pairs_near_a_state():
    oracle, t = gaussian(2.0, 0.5), 0.4
    pair = oracle.sample(400_000, generator=torch.Generator().manual_seed(1))
    point = PATH.sample(pair, torch.full((len(pair),), t, dtype=torch.float64))
    for low in (0.2, 0.8, 1.3):
        near = (point.x_t[:, 0] > low) & (point.x_t[:, 0] < low + 0.05)
        velocities = point.v_t[near]
        v = oracle(point.x_t[near], point.t[near]).mean()
        assert (
            abs(float(velocities.mean() - v)) < 3 * float(velocities.std()) / len(velocities) ** 0.5
        )


@pytest.mark.parametrize("mean", [0.0, 2.0])
@pytest.mark.parametrize("std", [0.5, 1.0, 1.7])
def test_straightness_of_both_rounds(mean, std):
    """``s (2 - pi / 2)`` for each dimension after the first, whatever the mean; then 0."""
    # Quantiles in place of draws: S is a mean over x_0, quadratic in it.
    x_0 = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    nodes = torch.linspace(0, 1, 201, dtype=torch.float64)
    first, second = gaussian(mean, std), SecondRound(mean, std).requires_grad_(False)
    for field, expected, tolerance in (
        (first, std * (2 - math.pi / 2), 1e-4),
        (second, 0.0, 1e-10),
    ):
        states = trajectory(Heun(), field, x_0, nodes)
        found = path_statistics(field, states, nodes).straightness
        assert found == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
def test_pairs_are_those_of_the_exact_map(shape, generator):
    oracle = GaussianOracle(MEAN, COV, shape=shape)
    pair = oracle.sample(32, generator=generator)
    keeps = Keeps()
    Reflow(PATH, oracle, keeps, sampler=FINE)(oracle, pair)
    zero, one = torch.zeros(32).double(), torch.ones(32).double()
    expected = oracle.flow(pair.x_0, zero, one)
    torch.testing.assert_close(keeps.pair.x_1, expected, atol=1e-4, rtol=0)  # of 100 Heun steps
    assert torch.equal(keeps.pair.x_0, pair.x_0)
    one_row = Pair(pair.x_0[:1], pair.x_1[:1])
    assert Reflow(PATH, oracle, keeps, sampler=FINE)(oracle, one_row).value.shape == (1,)


def test_pairs_have_the_law_of_the_data_and_keep_their_order():
    """In one dimension flows are monotone, so the pairs are those of optimal transport."""
    oracle = MixtureOracle(
        torch.tensor([0.3, 0.7]), torch.tensor([[-2.0], [1.5]]), torch.tensor([0.3, 0.6])
    )
    n = 4000
    drawn = oracle.sample(n, generator=torch.Generator().manual_seed(2))
    pair = Pair(drawn.x_0, drawn.x_1)
    made = Reflow(PATH, oracle, Keeps(), sampler=FINE).ends(pair)[:, 0]
    order = pair.x_0[:, 0].argsort()
    assert bool((made[order].diff() >= 0).all())
    data = pair.x_1[:, 0].sort().values
    # Kolmogorov-Smirnov of two samples: above 1.95 sqrt(2 / n) once in 1000.
    below = torch.searchsorted(data, made.sort().values, right=True) / n
    distance = (below - torch.arange(1, n + 1) / n).abs().max()
    assert float(distance) < 1.95 * (2 / n) ** 0.5


@pytest.mark.parametrize("schedule", [Linear(), Trig()])
def test_second_round_has_no_loss_at_its_closed_form(schedule, generator):
    """From N(0, 1) to N(m, s^2) the map is ``m + s x``: pairs are a line, on any path."""
    path = AffinePath(schedule)
    oracle = GaussianOracle(torch.tensor([2.0]), torch.tensor([[0.25]]).double(), schedule=schedule)
    pair = oracle.sample(64, generator=generator)
    objective = Reflow(path, oracle, FlowMatching(path), sampler=FINE)

    class Exact(nn.Module):
        def forward(self, x, t, cond=None):
            c = schedule(t)
            alpha, sigma, da, ds = (v[:, None] for v in (c.alpha, c.sigma, c.d_alpha, c.d_sigma))
            x_0 = (x - 2 * alpha) / (0.5 * alpha + sigma)
            return da * (2 + 0.5 * x_0) + ds * x_0

    loss = objective(Exact(), pair, generator=generator)
    assert float(loss.value.max()) < 1e-6  # the square of what 100 Heun steps miss
    if isinstance(schedule, Linear):
        torch.testing.assert_close(
            Exact()(pair.x_0, loss.t), SecondRound(2.0, 0.5)(pair.x_0, loss.t)
        )


def test_gradient_leads_to_the_closed_form(generator):
    oracle, student = gaussian(2.0, 0.5), SecondRound(2.0, 0.5)
    pair = oracle.sample(256, generator=generator)
    objective = Reflow(PATH, oracle, FlowMatching(PATH), sampler=FINE)
    for error, sign in ((0.3, 1), (-0.3, -1)):
        student.error.data.fill_(error)
        student.zero_grad()
        objective(student, pair, generator=generator).total().backward()
        assert sign * float(student.error.grad) > 0


def test_k_times_are_enough_for_k_steps(generator):
    """A field that is right at the times of Discrete alone is sampled exactly by as many steps."""
    oracle, right = gaussian(2.0, 0.5), SecondRound(2.0, 0.5).requires_grad_(False)

    class RightAtNodes(nn.Module):
        def forward(self, x, t, cond=None):
            off = (4 * t - (4 * t).round()).abs() > 1e-5
            return torch.where(off[:, None], 100.0, right(x, t))

    objective = Reflow(PATH, oracle, FlowMatching(PATH, Discrete(4)), sampler=FINE)
    pair = oracle.sample(64, generator=generator)
    assert float(objective(RightAtNodes(), pair, generator=generator).value.max()) < 1e-6
    for steps in (1, 2, 4):
        end = Sampler(Euler(), Uniform(), steps).sample(RightAtNodes(), pair.x_0)
        torch.testing.assert_close(end, 2 + 0.5 * pair.x_0, atol=1e-9, rtol=0)


def test_pairs_of_a_flow_are_taken_as_they_are(generator):
    class OfFlow(Independent):
        of_flow = True

    oracle, keeps = GaussianOracle(MEAN, COV), Keeps()
    pair = oracle.sample(8, generator=generator)
    Reflow(PATH, oracle, keeps, sampler=FINE, coupling=OfFlow())(oracle, pair)
    assert keeps.pair is pair
    Reflow(PATH, oracle, keeps, sampler=FINE, coupling=Independent())(oracle, pair)
    assert not torch.equal(keeps.pair.x_1, pair.x_1)


def test_teacher_is_guided_by_the_labels_of_the_rows(generator):
    def velocity(x, t, cond=None):
        return (1.0 + cond["label"].to(x))[:, None].expand(x.shape)

    guided = Guided(velocity, 3.0, lambda n, device: {"label": torch.full((n,), 2)})
    keeps = Keeps()
    label = torch.tensor([0, 1, 2])
    pair = Pair(torch.zeros(3, 2), torch.randn(3, 2, generator=generator), {"label": label})
    Reflow(PATH, guided, keeps, sampler=Sampler(Euler(), Uniform(), 4))(guided, pair)
    # v_null + 3 (v_cond - v_null) with v = 1 + label and null label 2.
    torch.testing.assert_close(keeps.pair.x_1[:, 0], torch.tensor([-3.0, 0.0, 3.0]))
    assert keeps.pair.cond == pair.cond


def test_weights_of_the_pairs_before_are_dropped_and_start_is_scaled(generator):
    class Late(nn.Module):
        domain = (0.25, 1.0)

        def forward(self, x, t, cond=None):
            return torch.zeros_like(x)

    keeps = Keeps()
    pair = Pair(torch.ones(4, 2), torch.zeros(4, 2), weight=torch.tensor([0.5, 0.5, 1.0, 2.0]))
    Reflow(PATH, Late(), keeps, sampler=Sampler(Euler(), Uniform(), 2))(Late(), pair)
    assert keeps.pair.weight is None
    assert torch.equal(keeps.pair.x_1, torch.full((4, 2), 0.75))


def test_objective_inside_is_told_what_the_run_tells():
    class Told(Keeps):
        total_steps = None
        began = stepped = None

        def begin(self, field):
            self.began = field

        def after_step(self, field, step):
            self.stepped = step

    told, field = Told(), nn.Identity()
    reflow = Reflow(PATH, gaussian(0, 1), told, sampler=FINE)
    assert isinstance(reflow, Prepared)
    assert isinstance(reflow, Follows)
    assert isinstance(reflow, Scheduled)
    reflow.begin(field)
    reflow.after_step(field, 3)
    reflow.total_steps = 7
    assert told.began is field
    assert (told.stepped, told.total_steps, reflow.total_steps) == (3, 7, 7)
    plain = Reflow(PATH, gaussian(0, 1), FlowMatching(PATH), sampler=FINE)
    plain.begin(field)
    plain.after_step(field, 1)
    plain.total_steps = 7
    assert plain.total_steps is None


def test_teacher_is_no_part_of_the_objective_and_learns_nothing(generator):
    teacher = PredictionField(MLP((2,), width=8), PATH, Velocity())
    student = PredictionField(MLP((2,), width=8), PATH, Velocity())
    objective = Reflow(PATH, teacher, FlowMatching(PATH), sampler=Sampler(Heun(), Uniform(), 2))
    assert list(objective.parameters()) == []
    x = torch.randn(2, 16, 2, generator=generator)
    objective(student, Pair(x[0], x[1]), generator=generator).total().backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_refusals():
    inner = FlowMatching(PATH)
    with pytest.raises(InputError, match="needs a teacher"):
        Reflow(PATH, None, inner, sampler=FINE)
    noisy = Sampler(EulerMaruyama(), Uniform(), 2)
    with pytest.raises(InputError, match="draws noise"):
        Reflow(PATH, gaussian(0, 1), inner, sampler=noisy)
