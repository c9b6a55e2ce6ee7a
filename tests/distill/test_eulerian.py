"""The exact flow map is the zero of every Eulerian residual, and pushes lead to it."""

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError, Pair
from flowgen.distill import (
    Difference,
    Eulerian,
    Exact,
    Normalised,
    NormalisedDerivative,
    OfData,
    OfStudent,
    OfTeacher,
    Plain,
    Ramp,
    ToEdge,
    TwoTimes,
    Uncertainty,
)
from flowgen.distill.intervals import Intervals
from flowgen.models import MLP, FlowMapField
from flowgen.objectives import Adaptive
from flowgen.paths import AffinePath, Linear, Velocity
from known_students import SlopesAtNodes, gaussian
from oracles import GaussianOracle

PATH = AffinePath(Linear())
MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])
HALVES = (0.0, 0.5, 1.0)


@pytest.fixture
def oracle():
    return GaussianOracle(MEAN, COV)


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
@pytest.mark.parametrize(
    ("edges", "intervals"),
    [
        (None, TwoTimes(diagonal=0.25)),
        ((0.0, 1.0), ToEdge()),
        (HALVES, ToEdge(edges=HALVES)),
    ],
    ids=["anywhere", "to data", "to edges"],
)
def test_exact_map_of_a_teacher_has_no_residual(oracle, edges, intervals, shape, generator):
    oracle = GaussianOracle(MEAN, COV, shape=shape)
    objective = Eulerian(PATH, intervals, OfTeacher(oracle))
    loss = objective(
        ExactMap(oracle, edges), oracle.sample(64, generator=generator), generator=generator
    )
    assert float(loss.value.max()) < 1e-18
    assert float(loss.terms["residual"].max()) < 1e-18


@pytest.mark.parametrize("backwards", [False, True])
def test_identity_holds_in_both_directions(oracle, backwards, generator):
    class Directed:
        def __call__(self, n, *, generator=None, device=None):
            found = TwoTimes(diagonal=0)(n, generator=generator, device=device)
            return type(found)(found.t, found.s, n) if backwards else found

    loss = Eulerian(PATH, Directed(), OfTeacher(oracle))(
        ExactMap(oracle), oracle.sample(64, generator=generator), generator=generator
    )
    assert float(loss.value.max()) < 1e-16


def test_difference_quotient_is_of_first_order(oracle, generator):
    pair = oracle.sample(256, generator=generator)
    sizes = []
    for h in (0.01, 0.001):
        objective = Eulerian(PATH, ToEdge(margin=0.01), OfTeacher(oracle), derivative=Difference(h))
        loss = objective(
            ExactMap(oracle, (0.0, 1.0)), pair, generator=torch.Generator().manual_seed(1)
        )
        sizes.append(float(loss.terms["residual"].mean().sqrt()))
    assert 8 < sizes[0] / sizes[1] < 12


@pytest.mark.parametrize("end", [0.1, 0.6, 1.0])
def test_end_of_a_jump_stays_where_it_is_as_its_start_moves(oracle, end, generator):
    """``d_s X + (grad_x X) v = 0`` for starts on both sides of the end."""
    x = torch.randn(64, 2, generator=generator, dtype=torch.float64)
    s = torch.rand(64, generator=generator, dtype=torch.float64)
    t, student = torch.full_like(s, end), ExactMap(oracle)

    def jump(x, s):
        return x + (t - s)[:, None] * student.mean_velocity(x, s, t)

    there, change = Exact()(jump, x, s, oracle(x, s))
    torch.testing.assert_close(there, oracle.flow(x, s, t), rtol=0, atol=1e-12)
    assert float(change.abs().max()) < 1e-9


@pytest.mark.parametrize("derivative", [Exact(), Difference(0.01)], ids=["exact", "difference"])
def test_gradient_passes_through_the_first_evaluation_alone(oracle, derivative, generator):
    """``2 (u - target) du / d(parameter)`` with the target taken as a constant."""

    class Teacher(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x, t, cond=None):
            return self.scale * oracle(x, t)

    class Spy(ExactMap):
        def mean_velocity(self, x, s, t, cond=None):
            found = super().mean_velocity(x, s, t, cond)
            seen.append(found.requires_grad)
            return found

    pair = oracle.sample(128, generator=generator)
    teacher, student = Teacher(), Spy(oracle, (0.0, 1.0), error=0.3)
    seen: list[bool] = []
    draws = [torch.Generator().manual_seed(3) for _ in range(2)]
    intervals = ToEdge(margin=derivative.reach)
    objective = Eulerian(PATH, intervals, OfTeacher(teacher), derivative=derivative)
    loss = objective(student, pair, generator=draws[0])
    loss.total().backward()
    assert sum(seen) == 1
    assert teacher.scale.grad is None

    s = intervals(128, generator=draws[1]).s.double()
    x = PATH.sample(pair, s).x_t
    v = oracle(x, s)
    end = torch.ones_like(s)
    if derivative.reach:
        h = derivative.reach
        later = student.mean_velocity(x + h * v, s + h, end)
        slope = (later - student.mean_velocity(x, s, end)) / h
    else:
        arguments = ((x, s), (v, torch.ones_like(s)))
        _, slope = torch.func.jvp(lambda x, s: student.mean_velocity(x, s, end), *arguments)
    target = (v + (1 - s)[:, None] * slope).detach()
    other = ExactMap(oracle, (0.0, 1.0), error=0.3)
    (other.mean_velocity(x, s, end) - target).square().mean().backward()
    torch.testing.assert_close(student.error.grad, other.error.grad, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("count", "error"), [(10, 0.02169169581), (100, 0.002546466376), (1000, 0.00025867536)]
)
def test_bias_of_difference_quotients_is_that_of_the_closed_form(count, error):
    """From N(0, 1) to N(0, 1/4) the map is ``P x`` with ``P(0) = -1/2``, and on a grid beside it.

    There velocity matching settles where ``P = k + (1 - t) (P_next (1 + h k) - P) / h``, with ``k``
    the slope of the velocity.
    """
    h = 1 / count
    t = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    k = (t / 4 - (1 - t)) / ((1 - t) ** 2 + t**2 / 4)
    slopes = k.clone()
    for i in reversed(range(count)):
        ahead = (1 - t[i]) * slopes[i + 1] * (1 + h * k[i])
        slopes[i] = (h * k[i] + ahead) / (h + 1 - t[i])
    assert float(slopes[0]) + 0.5 == pytest.approx(error, abs=1e-10)

    class Nodes:
        edges = (0.0, 1.0)

        def __call__(self, n, *, generator=None, device=None):
            return Intervals(t[:-1], torch.ones_like(t[:-1]), n)

    teacher, pair = OfTeacher(gaussian(0.0, 0.5)), Pair(*torch.ones(2, count, 1).double())
    objective = Eulerian(PATH, Nodes(), teacher, derivative=Difference(h))
    assert float(objective(SlopesAtNodes(t, slopes), pair).value.max()) < 1e-18
    assert float(objective(SlopesAtNodes(t, 1.01 * slopes), pair).value.max()) > 1e-6


@pytest.mark.parametrize(("s", "t"), [(0.5, 0.9), (0.2, 1.0), (0.8, 0.1), (0.4, 0.4)])
def test_mean_of_the_targets_of_pairs_is_the_mean_velocity(oracle, s, t):
    """Over pairs at a state, of which four stand for all: targets are linear in the velocity."""
    state, start = (torch.tensor(x, dtype=torch.float64) for x in ([[0.4, 0.2]], [s]))
    mean, _ = oracle.posterior_means(state, start)
    gain = s * COV.double() @ torch.linalg.inv(oracle.cov(start)[0])
    spread = torch.linalg.cholesky(COV.double() - s * gain @ COV.double())
    x_1 = mean + 2**0.5 * torch.cat([spread.T, -spread.T])
    pair = Pair((state - s * x_1) / (1 - s), x_1)

    class Fixed:
        def __call__(self, n, *, generator=None, device=None):
            return Intervals(start.expand(n), start.new_full((n,), t), n if s != t else 0)

    student = ExactMap(oracle)
    student.error = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    loss = Eulerian(PATH, Fixed(), OfData())(student, pair)
    loss.total().backward()
    assert float(loss.value.min()) > 1e-2
    assert float(student.error.grad.abs().max()) < 1e-10


def test_velocities_of_pairs_serve_as_well_as_the_marginal_one(oracle):
    """The target is linear in the velocity: its mean over pairs at a state is the true one."""
    n, state, time = 200_000, torch.tensor([0.4, 0.2]).double(), 0.5
    generator = torch.Generator().manual_seed(2)
    s, t = torch.full((n,), time).double(), torch.full((n,), 0.9).double()
    mean_1, mean_0 = oracle.posterior_means(state[None], s[:1])
    # Given the state, x_1 is normal with a covariance in closed form.
    total = COV.double() * time**2 + torch.eye(2).double() * (1 - time) ** 2
    gain = time * COV.double() @ torch.linalg.inv(total)
    spread = COV.double() - gain @ (time * COV.double())
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    x_1 = mean_1 + noise @ torch.linalg.cholesky(spread).T
    x_0 = (state - time * x_1) / (1 - time)
    v, x = x_1 - x_0, state.expand(n, 2)
    student = ExactMap(oracle)
    _, derivative = Exact()(lambda x, s: student.mean_velocity(x, s, t), x.contiguous(), s, v)
    target = v + (t - s)[:, None] * derivative
    truth = student.mean_velocity(state[None], s[:1], t[:1])[0].detach()
    error = target.std(dim=0) / n**0.5
    assert ((target.mean(dim=0) - truth).abs() < 4 * error).all()
    assert (mean_0 - (state - time * mean_1) / (1 - time)).abs().max() < 1e-12


def test_only_the_whole_push_may_be_shortened(oracle, generator):
    """Shortening the derivative alone moves the zero away from the mean velocity."""
    pair = oracle.sample(64, generator=generator)
    for tangent, exact in ((Normalised(0.1), True), (NormalisedDerivative(0.1), False)):
        objective = Eulerian(PATH, ToEdge(), OfTeacher(oracle), tangent=tangent)
        loss = objective(ExactMap(oracle, (0.0, 1.0)), pair, generator=generator)
        assert (float(loss.value.max()) < 1e-12) is exact


def test_push_is_logged_before_it_is_shortened(oracle, generator):
    """The loss of a shortened push saturates, so its length is told before."""
    pair = oracle.sample(64, generator=generator)
    for tangent in (Plain(), Normalised(0.1), NormalisedDerivative(0.1)):
        objective = Eulerian(PATH, ToEdge(), OfTeacher(oracle), tangent=tangent)
        loss = objective(ExactMap(oracle, (0.0, 1.0), error=3.0), pair, generator=generator)
        size = (2 * loss.terms["residual"]).sqrt()
        torch.testing.assert_close(loss.terms["tangent"], size)
        if type(tangent) is Normalised:
            short = size / (size + 0.1)
            torch.testing.assert_close(loss.value.detach(), short.square() / 2)


def test_logged_length_of_a_push_has_the_ramp(oracle, generator):
    pair = oracle.sample(64, generator=generator)
    tangent = Normalised(0.1, Ramp(0.5))
    objective = Eulerian(PATH, ToEdge(), OfTeacher(oracle), tangent=tangent)
    objective.total_steps = 10
    student = ExactMap(oracle, (0.0, 1.0), error=3.0)
    loss = objective(student, pair, step=0, generator=generator)
    x = PATH.sample(pair, loss.t).x_t
    u = student.mean_velocity(x, loss.t, torch.ones_like(loss.t)).detach()
    torch.testing.assert_close(loss.terms["tangent"], (oracle(x, loss.t) - u).norm(dim=1))


def test_ramp_begins_with_the_velocity():
    """At step 0 of a ramp the derivative plays no part; later a share of it does."""
    ramp = Plain(Ramp(0.5, end=0.5))
    mismatch, derivative, length = torch.ones(2, 3), torch.full((2, 3), 4.0), torch.tensor([0.5, 1])
    assert torch.equal(ramp(mismatch, derivative, length, 0.0), mismatch)
    expected = mismatch + 0.5 * length[:, None] * derivative
    assert torch.equal(ramp(mismatch, derivative, length, 0.5), expected)
    assert torch.equal(ramp(mismatch, derivative, length, 1.0), expected)


def test_improved_mean_flow_regresses_the_data_alone(oracle, generator):
    """With the exact map ``V = v``, so the loss is the scatter of pair velocities around it."""
    pair = oracle.sample(20_000, generator=generator)
    objective = Eulerian(PATH, TwoTimes(diagonal=0.0), OfData(), along=OfStudent(), diagonal=1.0)
    loss = objective(ExactMap(oracle), pair, generator=generator)
    point = PATH.sample(pair, loss.t)
    scatter = (point.v_t - oracle(point.x_t, loss.t)).square().mean(dim=1)
    torch.testing.assert_close(loss.value, 2 * scatter)


def test_derivatives_are_found_for_rows_with_a_length_alone(generator):
    seen = []

    class Spy(Exact):
        def __call__(self, function, x, s, w):
            seen.append(len(x))
            return super().__call__(function, x, s, w)

    oracle = GaussianOracle(MEAN, COV)
    pair = oracle.sample(16, generator=generator)
    for diagonal in (0.75, 1.0):
        Eulerian(PATH, TwoTimes(diagonal=diagonal), OfData(), derivative=Spy())(
            ExactMap(oracle), pair, generator=generator
        )
    assert seen == [4]


@pytest.mark.parametrize("half", [False, True])
def test_both_passes_drop_the_same_features(half):
    """Without a push a difference quotient sees dropout alone; along ``x`` it drops of ``x``."""
    dropout = torch.nn.Dropout(0.5)
    x, s = torch.randn(32, 4, generator=torch.Generator().manual_seed(0)), torch.full((32,), 0.5)

    def function(x, s):
        return dropout(x)

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        value, slope = Difference(0.01)(function, x, s, torch.zeros_like(x))
        assert 0 < int((value == 0).sum()) < x.numel()
        assert torch.equal(slope, torch.zeros_like(x))
        value, slope = Exact()(function, x, s, x)
        assert torch.equal(value, slope)


@pytest.mark.parametrize("derivative", [Exact(), Difference(0.01)])
def test_half_precision_is_for_the_value_alone(derivative):
    linear = torch.nn.Linear(8, 8)
    x, w = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    s = torch.full((16,), 0.5)

    def function(x, s):
        return linear(x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, slope = derivative(function, x, s, w)
    assert value.dtype == torch.bfloat16
    assert slope.dtype == torch.float32
    torch.testing.assert_close(slope, w @ linear.weight.detach().T, rtol=1e-4, atol=1e-4)


def test_learnt_weights_settle_at_the_inverse_of_the_loss():
    torch.manual_seed(0)
    weigh = Uncertainty(16)
    s = torch.rand(256, generator=torch.Generator().manual_seed(0))
    loss = torch.where(s < 0.5, 4.0, 0.25)
    assert torch.equal(weigh(loss, s, torch.ones_like(s)), loss)
    optimizer = torch.optim.Adam(weigh.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        weigh(loss, s, torch.ones_like(s)).mean().backward()
        optimizer.step()
    one = torch.ones(256)
    weight = weigh(one, s, one) - weigh(torch.zeros(256), s, one)
    assert float((weight[s < 0.4] * 4).mean()) == pytest.approx(1, abs=0.1)
    assert float((weight[s > 0.6] / 4).mean()) == pytest.approx(1, abs=0.1)


def test_refuses_what_is_no_flow_map_or_another_one(oracle, generator):
    pair = oracle.sample(8, generator=generator)
    with pytest.raises(InputError, match="velocity alone"):
        Eulerian(PATH, ToEdge(), OfData())(oracle, pair)
    with pytest.raises(InputError, match="leads to the edges"):
        Eulerian(PATH, ToEdge(), OfData())(ExactMap(oracle, HALVES), pair)
    with pytest.raises(InputError, match="margin"):
        Eulerian(PATH, ToEdge(), OfData(), derivative=Difference(0.01))
    with pytest.raises(InputError, match="diagonal"):
        Eulerian(PATH, ToEdge(), OfData(), diagonal=-1.0)


def test_network_of_a_flow_map_can_be_trained_so(generator):
    """All parts fit: a perceptron, automatic conversion, the adaptive distance."""
    oracle = GaussianOracle(MEAN, COV)
    field = FlowMapField(MLP((2,), width=16, interval=True), PATH, Velocity())
    pair = oracle.sample(32, generator=generator)
    pair = type(pair)(pair.x_0.float(), pair.x_1.float())
    objective = Eulerian(PATH, TwoTimes(), OfData(), distance=Adaptive())
    objective(field, pair, generator=generator).total().backward()
    assert all(p.grad is not None for p in field.parameters())
