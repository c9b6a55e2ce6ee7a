"""Velocity distillation descends the divergence of noised marginals, seen through a jump."""

import math

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError, Pair
from flowgen.distill import (
    Difference,
    Eulerian,
    Exact,
    KullbackLeibler,
    NormalisedDerivative,
    OfTeacher,
    Part,
    ToEdge,
    Together,
    VelocityDistillation,
)
from flowgen.distill.eulerian import residual
from flowgen.distill.intervals import Intervals
from flowgen.models import MLP, SegmentField
from flowgen.objectives import Constant, FlowMatching, Uniform
from flowgen.paths import (
    AffinePath,
    BrownianBridge,
    Linear,
    StochasticInterpolant,
    Trig,
    Velocity,
)
from known_students import AffineStudent, At, gaussian
from oracles import GaussianOracle

PATH = AffinePath(Linear())
MEAN, STD = 2.0, 0.5
A = 0.8
MANY = 200_000


def empty(n, shape=(1,)):
    """A batch that says shape and dtype alone."""
    zeros = torch.zeros(n, *shape, dtype=torch.float64)
    return Pair(zeros, zeros)


def divergence(scale, shift, t):
    """``KL`` of the noised laws of ``N(shift, scale^2)`` and of the data at time ``t``."""
    p = (1 - t) ** 2 + (t * scale) ** 2
    q = (1 - t) ** 2 + (t * STD) ** 2
    return 0.5 * (p / q + (t * (shift - MEAN)) ** 2 / q - 1 - (p / q).log())


@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_with_its_weight_the_gradient_is_that_of_the_divergence(t):
    """Up to ``J = A / a_t``, the slope of the student's jump, which the derivative brings in."""
    student = AffineStudent(A, 1.7)
    objective = VelocityDistillation(
        PATH, gaussian(MEAN, STD), times=At(t), weighting=KullbackLeibler()
    )
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(8):
        student.zero_grad()
        objective(student, empty(MANY // 8), generator=generator).total().backward()
        found.append(torch.stack([student.scale.grad, student.shift.grad]))
    time = torch.tensor(t).double()
    other = AffineStudent(A, 1.7)
    divergence(other.scale, other.shift, time).backward()
    slope = A / math.sqrt((1 - t) ** 2 + (t * A) ** 2)
    truth = 2 * slope * torch.stack([other.scale.grad, other.shift.grad])
    batches = torch.stack(found)
    error = batches.std(dim=0) / math.sqrt(8)
    # With eight batches 5 of these errors are about 3 of a known one.
    assert ((batches.mean(dim=0) - truth).abs() < 5 * error).all()
    assert (error < 0.06 * truth.abs()).all()


@pytest.mark.parametrize("t", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("weighed", [False, True])
def test_gradient_is_the_closed_form_to_rounding(t, weighed, monkeypatch):
    """Noise of -1 and 1 has the moments of all noise, and the gradient is quadratic in it."""
    z, again = (torch.tensor(x).double()[:, None] for x in ([-1, -1, 1, 1], [-1, 1, -1, 1]))
    monkeypatch.setattr("flowgen.distill.generator.normal", lambda like, generator: z)
    monkeypatch.setattr("flowgen.distill.velocity_distillation.normal", lambda *_: again)
    student, shift = AffineStudent(A, 1.7), 1.7
    objective = VelocityDistillation(
        PATH,
        gaussian(MEAN, STD),
        times=At(t),
        weighting=KullbackLeibler() if weighed else None,
    )
    objective(student, empty(4)).total().backward()
    p, q = ((1 - t) ** 2 + (t * std) ** 2 for std in (A, STD))
    # Of the divergence: in the scale t^2 A (1 / q - 1 / p), in the shift t^2 (shift - MEAN) / q.
    slopes = [t**2 * A * (1 / q - 1 / p), t**2 * (shift - MEAN) / q]
    truth = torch.tensor(slopes, dtype=torch.float64)
    other = AffineStudent(A, shift)
    divergence(other.scale, other.shift, torch.tensor(t).double()).backward()
    found = torch.stack([other.scale.grad, other.shift.grad])
    torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-12)
    factor = 1.0 if weighed else (1 - t) / t**2
    expected = 2 * A / p**0.5 * factor * truth
    found = torch.stack([student.scale.grad, student.shift.grad])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_weight_turns_velocities_into_scores_on_any_path():
    path = AffinePath(Trig())
    t = torch.tensor([0.15, 0.4, 0.85], dtype=torch.float64)
    x = torch.tensor([[0.3], [-1.0], [2.0]], dtype=torch.float64)
    one, other = (
        GaussianOracle(torch.tensor([m]), torch.tensor([[v]]), schedule=path.schedule)
        for m, v in ((2.0, 0.25), (1.0, 0.8))
    )
    c = path.coefficients(t)
    weight = KullbackLeibler()(t, c)
    expected = c.alpha[:, None] * (one.score(x, t) - other.score(x, t))
    torch.testing.assert_close(weight[:, None] * (one(x, t) - other(x, t)), expected)


def test_student_velocity_along_the_teacher_is_seen_through_the_jump(generator):
    """``w_code - v = J (w - v)``: the same zeros, and another length."""
    x = torch.randn(64, 1, generator=generator, dtype=torch.float64)
    s = 0.9 * torch.rand(64, generator=generator, dtype=torch.float64)
    student, teacher = AffineStudent(A, 1.7), gaussian(MEAN, STD)
    v, w = teacher(x, s), gaussian(1.7, A)(x, s)
    found = Intervals(s, torch.ones_like(s), 64)
    here = residual(student, x, found, v, v, Exact(), None)
    slope = A / ((1 - s) ** 2 + (s * A) ** 2).sqrt()
    torch.testing.assert_close(-here.value, slope[:, None] * (w - v), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
def test_exact_map_stays_where_it_is(shape, generator):
    mean, cov = torch.tensor([2.0, -1.0]), torch.tensor([[0.25, 0.1], [0.1, 0.5]])
    oracle = GaussianOracle(mean, cov, shape=shape)
    student = ExactMap(oracle, (0.0, 1.0))
    loss = VelocityDistillation(PATH, oracle)(student, empty(64, shape), generator=generator)
    assert float(loss.value.detach().max()) < 1e-18
    loss.total().backward()
    assert float(student.error.grad.abs()) < 1e-9


def test_gradient_passes_through_the_generating_jump_alone():
    """Every other pass of the student, at a later time, leaves none."""

    class Spy(AffineStudent):
        def mean_velocity(self, x, s, t, cond=None):
            found = super().mean_velocity(x, s, t, cond)
            if found.requires_grad:
                seen.append(float(s.max()))
            return found

    seen: list[float] = []
    objective = VelocityDistillation(PATH, gaussian(MEAN, STD), derivative=Difference(0.01))
    student = Spy(A, 1.7)
    loss = objective(student, empty(32), generator=torch.Generator().manual_seed(3))
    assert seen == [0.0]
    loss.total().backward()

    draws = torch.Generator().manual_seed(3)
    z = torch.randn(32, 1, generator=draws, dtype=torch.float64)
    s = ToEdge(margin=0.01)(32, generator=draws).s.double()
    again = torch.randn(32, 1, generator=draws, dtype=torch.float64)
    other = AffineStudent(A, 1.7)
    x_t = (1 - s)[:, None] * again + s[:, None] * (other.scale * z + other.shift).detach()
    v = gaussian(MEAN, STD)(x_t, s)
    u = [other(x_t, s), other(x_t + 0.01 * v, s + 0.01)]
    w = u[0] - (1 - s)[:, None] * (u[1] - u[0]) / 0.01
    ((w - v).detach() * (z + other.mean_velocity(z, 0 * s, 1 + 0 * s)) * 2).mean().backward()
    torch.testing.assert_close(student.scale.grad, other.scale.grad, rtol=1e-7, atol=0)
    torch.testing.assert_close(student.shift.grad, other.shift.grad, rtol=1e-7, atol=0)
    torch.testing.assert_close(
        loss.value.detach(), (w - v).detach().square()[:, 0], rtol=1e-7, atol=0
    )


def test_error_of_the_map_is_bounded_by_that_of_its_velocity(generator):
    """The paper's theorem 1: ``E |(1 - t)(phi - phi*)|^2 <= max |w - v|^2 E (1 - t)^2``."""
    oracle = GaussianOracle(torch.tensor([2.0, -1.0]), torch.tensor([[0.25, 0.1], [0.1, 0.5]]))
    student, exact = ExactMap(oracle, (0.0, 1.0), error=0.3), ExactMap(oracle, (0.0, 1.0))
    pair = oracle.sample(5000, generator=generator)
    loss = Eulerian(PATH, ToEdge(), OfTeacher(oracle))(student, pair, generator=generator)
    # The terms have the mean over dimensions, as the left side has.
    largest = float(loss.terms["residual"].max())
    t = loss.t
    x, end = PATH.sample(pair, t).x_t, torch.ones_like(loss.t)
    away = student.mean_velocity(x, t, end) - exact.mean_velocity(x, t, end)
    primary = ((1 - t) ** 2 * away.detach().square().mean(dim=1)).mean()
    assert 0.0 < float(primary) <= largest * float(((1 - t) ** 2).mean())


def test_normalised_derivative_moves_the_zero(generator):
    oracle = gaussian(MEAN, STD)
    objective = VelocityDistillation(PATH, oracle, tangent=NormalisedDerivative(0.1))
    loss = objective(ExactMap(oracle, (0.0, 1.0)), empty(64), generator=generator)
    assert float(loss.value.detach().max()) > 1e-3


def test_times_are_of_the_part_that_tells_a_residual(generator):
    """So that residuals fall into the right time bins."""
    oracle = gaussian(MEAN, STD)
    parts = {
        "velocity": Part(FlowMatching(PATH, Uniform())),
        "map": Part(Eulerian(PATH, ToEdge(At(0.9)), OfTeacher(oracle))),
    }
    pair = oracle.sample(8, generator=generator)
    loss = Together(parts)(AffineStudent(A, 1.7), pair, generator=generator)
    torch.testing.assert_close(loss.t, torch.full_like(loss.t, 0.9))
    assert torch.equal(loss.terms["residual"], loss.terms["map_residual"])
    alone = Together({"velocity": parts["velocity"]})
    loss = alone(AffineStudent(A, 1.7), pair, generator=generator)
    assert len(loss.t.unique()) > 1
    assert "residual" not in loss.terms


def test_part_may_wait_for_a_share_of_the_run(generator):
    oracle = gaussian(MEAN, STD)
    matching = Eulerian(PATH, ToEdge(), OfTeacher(oracle))
    both = Together(
        {
            "matching": Part(matching),
            "distillation": Part(VelocityDistillation(PATH, oracle), after=0.25),
        }
    )
    student, pair = AffineStudent(A, 1.7), oracle.sample(8, generator=generator)
    # A rehearsal, before the run tells its length, sees all parts.
    assert "distillation" in both(student, pair).terms
    both.total_steps = 10
    assert matching.total_steps == 10
    for step, there in ((0, False), (2, False), (3, True)):
        assert ("distillation" in both(student, pair, step=step).terms) is there
    loss = both(student, pair, step=3, generator=generator)
    assert torch.equal(loss.terms["residual"], loss.terms["matching_residual"])
    with pytest.raises(InputError, match="at step 0"):
        Together({"one": Part(matching, after=0.5)})
    with pytest.raises(InputError, match="after"):
        Part(matching, after=1.0)


def test_refuses_what_it_cannot_follow(generator):
    oracle = gaussian(MEAN, STD)
    objective = VelocityDistillation(PATH, oracle, weighting=Constant())
    with pytest.raises(InputError, match="data at once"):
        objective(ExactMap(oracle, (0.0, 0.5, 1.0)), empty(4), generator=generator)
    with pytest.raises(InputError, match="velocity alone"):
        objective(oracle, empty(4), generator=generator)
    with pytest.raises(InputError, match="noise of its own"):
        VelocityDistillation(StochasticInterpolant(Linear(), BrownianBridge()), oracle)
    with pytest.raises(InputError, match="floor"):
        KullbackLeibler(floor=0.0)


def test_network_is_moved(generator):
    field = SegmentField(MLP((2,), width=16), PATH, Velocity())
    oracle = GaussianOracle(torch.tensor([2.0, -1.0]), torch.tensor([[0.25, 0.1], [0.1, 0.5]]))
    pair = Pair(torch.zeros(1, 2), torch.zeros(1, 2))
    VelocityDistillation(PATH, oracle)(field, pair, generator=generator).total().backward()
    assert float(field.network.out.bias.grad.abs().sum()) > 0


def test_residual_and_tangent_are_told(generator):
    """Those of the student's own samples: none for the exact map, and the push where it errs."""
    oracle = GaussianOracle(torch.tensor([2.0, -1.0]), torch.tensor([[0.25, 0.1], [0.1, 0.5]]))
    pair = oracle.sample(64, generator=generator)
    objective = VelocityDistillation(PATH, oracle)
    exact = objective(ExactMap(oracle, (0.0, 1.0)), pair, generator=generator).terms
    assert float(exact["residual"].max()) < 1e-18
    wrong = ExactMap(oracle, (0.0, 1.0), error=0.2)
    loss = objective(wrong, pair, generator=generator)
    assert loss.terms["residual"].shape == loss.terms["tangent"].shape == (64,)
    assert float(loss.terms["residual"].min()) > 0
    # With the plain tangent the loss is the mean square of the push, in two dimensions.
    torch.testing.assert_close(loss.terms["tangent"], (2 * loss.value.detach()).sqrt())
