"""A jump is two jumps: exact maps fulfil it, and the error of a first step is of its order."""

import math

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError, Pair
from flowgen.distill import (
    AlongPath,
    AlongVelocity,
    Approach,
    Dyadic,
    Eulerian,
    Even,
    Middle,
    NextStep,
    OfData,
    OfTeacher,
    OwnJump,
    PerNoiseStep,
    PerStep,
    Ratio,
    Semigroup,
    TeacherHeun,
    ToEdge,
    TwoTimes,
)
from flowgen.distill.triples import Triples
from flowgen.integrators import Explicit, Jump, Sampler
from flowgen.objectives import EDMLogNormal, LogitNormal, Uniform
from flowgen.paths import AffinePath, Linear
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
    "triples",
    [
        Middle(TwoTimes(diagonal=0.25)),
        Middle(TwoTimes(diagonal=0.25), share=0.2),
        Middle(TwoTimes(diagonal=0.25), share=None),
        Dyadic(levels=4, diagonal=0.25),
        Approach(TwoTimes(diagonal=0.5)),
    ],
)
def test_two_exact_jumps_are_one(triples, shape, generator):
    oracle = GaussianOracle(MEAN, COV, shape=shape)
    objective = Semigroup(PATH, triples, OwnJump(), velocity=OfTeacher(oracle))
    objective.total_steps = 10
    pair = oracle.sample(64, generator=generator)
    for step in (0, 5, 9):
        loss = objective(ExactMap(oracle), pair, step=step, generator=generator)
        # Mean velocities of short intervals lose digits: the shortest here is near 1e-3.
        assert float(loss.value.detach().max()) < 1e-16


@pytest.mark.parametrize("ends", [False, True])
def test_two_exact_halves_are_the_whole_to_rounding(oracle, ends, generator):
    objective = Semigroup(PATH, Dyadic(levels=4, diagonal=0.0), OwnJump(), ends=ends)
    pair = oracle.sample(256, generator=generator)
    loss = objective(ExactMap(oracle), pair, generator=generator)
    assert float(loss.value.detach().max()) < 1e-24


@pytest.mark.parametrize("edges", [(0.0, 1.0), HALVES])
@pytest.mark.parametrize("heun", [False, True])
def test_error_of_a_teachers_step_is_of_its_order(oracle, heun, edges):
    """Ends differ by ``O(h^2)`` after an Euler step and ``O(h^3)`` after one of Heun's."""
    first = TeacherHeun(oracle) if heun else AlongVelocity(OfTeacher(oracle))
    pair = oracle.sample(512, generator=torch.Generator().manual_seed(0))
    sizes = []
    for h in (0.02, 0.01):
        triples = NextStep(LogitNormal(0.0, 0.5), edges, step=h)
        objective = Semigroup(PATH, triples, first, ends=True)
        generator = torch.Generator().manual_seed(1)
        loss = objective(ExactMap(oracle, edges), pair, generator=generator)
        sizes.append(float(loss.value.detach().mean().sqrt()))
    order = math.log2(sizes[0] / sizes[1])
    assert order == pytest.approx(3 if heun else 2, abs=0.25)


def test_jumps_from_edge_to_edge_are_the_whole_flow(oracle, generator):
    """An exact segment map leaves its edges where they are, and four of its jumps are one."""
    edges = (0.0, 0.25, 0.5, 0.75, 1.0)
    student = ExactMap(oracle, edges)
    x = oracle.sample(64, generator=generator).x_0
    begin, end = torch.zeros(64).double(), torch.ones(64).double()
    found = Sampler(Jump(), Explicit(edges), 4).sample(student, x)
    torch.testing.assert_close(found, oracle.flow(x, begin, end), rtol=0, atol=1e-12)
    # Where a teacher's step ends the segment, the target is that step, whatever the map says.
    wrong = Semigroup(PATH, NextStep(edges=edges, step=0.249), TeacherHeun(oracle), ends=True)
    pair, draws = oracle.sample(64, generator=generator), torch.Generator().manual_seed(1)
    loss = wrong(ExactMap(oracle, edges, error=0.5), pair, generator=draws)
    last = (loss.t * 4) % 1 > 0.25
    x, s = PATH.sample(pair, loss.t).x_t, loss.t
    t = ((s * 4).floor() + 1) / 4
    h = (t - s)[:, None]
    v = oracle(x, s)
    step = x + h * (v + oracle(x + h * v, t)) / 2
    mine = x + h * ExactMap(oracle, edges, error=0.5).mean_velocity(x, s, t)
    expected = (mine - step).square().mean(dim=1)
    assert int(last.sum()) > 0
    torch.testing.assert_close(loss.value[last], expected[last], rtol=1e-12, atol=1e-12)


def test_target_of_the_path_has_the_true_mean(oracle):
    """Consistency training: given the state, targets scatter around the map up to ``O(h^2)``."""
    n, h = 100_000, 0.05
    state, s = torch.tensor([0.4, 0.2]).double(), 0.5
    generator = torch.Generator().manual_seed(2)
    mean_1, _ = oracle.posterior_means(state[None], torch.tensor([s]).double())
    total = COV.double() * s**2 + torch.eye(2).double() * (1 - s) ** 2
    gain = s * COV.double() @ torch.linalg.inv(total)
    spread = torch.linalg.cholesky(COV.double() - gain @ (s * COV.double()))
    x_1 = mean_1 + torch.randn(n, 2, generator=generator, dtype=torch.float64) @ spread.T
    x_0 = (state - s * x_1) / (1 - s)
    r = torch.full((n,), s + h).double()
    later = (s + h) * x_1 + (1 - s - h) * x_0
    student, one = ExactMap(oracle, (0.0, 1.0)), torch.ones(n).double()
    ends = later + (1 - r)[:, None] * student.mean_velocity(later, r, one)
    start = torch.full((1,), s).double()
    truth = oracle.flow(state[None], start, one[:1])[0]
    error = (ends.mean(dim=0) - truth).abs()
    assert (error < 4 * ends.std(dim=0) / n**0.5 + h**2).all()


def test_where_the_first_step_ends_the_jump_the_map_plays_no_part(oracle, generator):
    """The target is the data itself: denoising, as in the first stage of easy consistency."""

    class Never(ExactMap):
        def mean_velocity(self, x, s, t, cond=None):
            return super().mean_velocity(x, s, t, cond) * torch.where(s < 1, 1.0, 1e6)[:, None]

    pair = oracle.sample(64, generator=generator)

    class Whole(NextStep):
        def __call__(self, n, progress=1.0, *, generator=None, device=None):
            found = super().__call__(n, progress, generator=generator, device=device)
            return type(found)(found.s, found.t, found.t, n)

    loss = Semigroup(PATH, Whole(), AlongPath(), ends=True)(
        Never(oracle, (0.0, 1.0)), pair, generator=generator
    )
    x = PATH.sample(pair, loss.t).x_t
    ends = oracle.flow(x, loss.t, torch.ones_like(loss.t))
    expected = (ends - pair.x_1).square().mean(dim=1)
    torch.testing.assert_close(loss.value.detach(), expected)


def test_alpha_flow_leaves_the_map_by_the_square_of_its_share(oracle):
    """At 1 it is flow matching along the interval; halving the share quarters what is missing."""
    pair = oracle.sample(512, generator=torch.Generator().manual_seed(0))
    missing = []
    for share in (0.1, 0.05):
        triples = Middle(TwoTimes(LogitNormal(), diagonal=0.0), share=share)
        objective = Semigroup(PATH, triples, AlongVelocity(OfTeacher(oracle)), ends=True)
        loss = objective(ExactMap(oracle), pair, generator=torch.Generator().manual_seed(1))
        missing.append(float(loss.value.detach().mean().sqrt()))
    assert math.log2(missing[0] / missing[1]) == pytest.approx(2, abs=0.2)
    approach = Approach(TwoTimes())
    assert approach.share(0.0) == 1.0
    assert approach.share(0.5) == 0.5
    assert approach.share(1.0) == 0.005


def test_alpha_flow_begins_as_flow_matching_along_the_interval(oracle, generator):
    """At a share of 1 the target is the velocity of the pair, whatever the map says."""
    pair = oracle.sample(64, generator=generator)
    objective = Semigroup(PATH, Approach(TwoTimes(diagonal=0.0)), AlongVelocity(OfData()))
    objective.total_steps = 10
    student = ExactMap(oracle, error=0.5)
    loss = objective(student, pair, generator=torch.Generator().manual_seed(1))
    draws = TwoTimes(diagonal=0.0)(64, generator=torch.Generator().manual_seed(1))
    s, t = draws.s.double(), draws.t.double()
    point = PATH.sample(pair, s)
    expected = (student.mean_velocity(point.x_t, s, t) - point.v_t).square().mean(dim=1)
    torch.testing.assert_close(loss.value, expected, rtol=1e-9, atol=1e-12)


def settled_bias(s):
    """Return what is added at 0 to the slope -1/2 of the map from N(0, 1) to N(0, 1/4).

    From nodes ``s`` over the next ones to the data, by Euler steps of the teacher, the objective
    settles where ``(1 - s) P = (r - s) k + (1 - r) P(r) (1 + (r - s) k)``, with ``k`` the slope of
    the velocity; at the last node it begins with ``k``. That this is its zero is asserted.
    """
    k = (s / 4 - (1 - s)) / ((1 - s) ** 2 + s**2 / 4)
    slopes = k.clone()
    for i in reversed(range(len(s) - 1)):
        h = s[i + 1] - s[i]
        ahead = (1 - s[i + 1]) * slopes[i + 1] * (1 + h * k[i])
        slopes[i] = (h * k[i] + ahead) / (1 - s[i])

    class Nodes:
        edges = (0.0, 1.0)

        def __call__(self, n, progress=1.0, *, generator=None, device=None):
            return Triples(s[:-1], s[1:], torch.ones_like(s[1:]), n)

    first = AlongVelocity(OfTeacher(gaussian(0.0, 0.5)))
    pair = Pair(*torch.ones(2, len(s) - 1, 1).double())
    objective = Semigroup(PATH, Nodes(), first)
    assert float(objective(SlopesAtNodes(s, slopes), pair).value.max()) < 1e-18
    assert float(objective(SlopesAtNodes(s, slopes + s), pair).value.max()) > 1e-6
    return float(slopes[0]) + 0.5


@pytest.mark.parametrize(
    ("count", "error"), [(10, -0.0692173951), (100, -0.007354523723), (1000, -0.000740325639)]
)
def test_bias_of_euler_steps_is_that_of_the_closed_form(count, error):
    nodes = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    assert settled_bias(nodes) == pytest.approx(error, abs=1e-10)


def test_alpha_flow_settles_beside_the_map_by_its_share():
    """Half the share, half the bias."""
    found = []
    for share, count in ((0.04, 250), (0.02, 500)):
        left = (1 - share) ** torch.arange(count + 1, dtype=torch.float64)
        found.append(settled_bias(1 - left))
    assert abs(found[1]) > 1e-3
    assert math.log2(found[0] / found[1]) == pytest.approx(1, abs=0.1)


def test_gradient_passes_through_the_long_jump_alone(oracle, generator):
    pair = oracle.sample(64, generator=generator)
    student = ExactMap(oracle, error=0.3)
    objective = Semigroup(PATH, Middle(TwoTimes(diagonal=0.0)), OwnJump())
    objective(student, pair, generator=torch.Generator().manual_seed(1)).total().backward()

    draws = Middle(TwoTimes(diagonal=0.0))(64, generator=torch.Generator().manual_seed(1))
    s, r, t = (time.double() for time in (draws.s, draws.r, draws.t))
    x = PATH.sample(pair, s).x_t
    halves = 0.5 * (
        student.mean_velocity(x, s, r)
        + student.mean_velocity(x + (r - s)[:, None] * student.mean_velocity(x, s, r), r, t)
    )
    other = ExactMap(oracle, error=0.3)
    (other.mean_velocity(x, s, t) - halves.detach()).square().mean().backward()
    torch.testing.assert_close(student.error.grad, other.error.grad, rtol=1e-6, atol=0)


def test_targets_of_an_average_follow_it(oracle, generator):
    """An average that stands still at the truth gives true targets to a student that is wrong."""
    pair = oracle.sample(64, generator=generator)
    objective = Semigroup(PATH, Middle(TwoTimes(diagonal=0.0)), OwnJump(), target_decay=0.5)
    objective.begin(ExactMap(oracle))
    student = ExactMap(oracle, error=0.5)
    loss = objective(student, pair, generator=torch.Generator().manual_seed(1))
    draws = Middle(TwoTimes(diagonal=0.0))(64, generator=torch.Generator().manual_seed(1))
    s, t = draws.s.double(), draws.t.double()
    bump = torch.sin(PATH.sample(pair, s).x_t + (2 * s - t)[:, None])
    expected = (0.5 * bump).square().mean(dim=1)
    torch.testing.assert_close(loss.value.detach(), expected, rtol=1e-6, atol=1e-9)
    assert "average.error" in objective.state_dict()
    for step in (100, 101):
        objective.after_step(student, step)
    assert isinstance(objective.average, ExactMap)
    assert float(objective.average.error) == pytest.approx(0.375)


def test_times_of_every_sampler(generator):
    n = 700
    found = Dyadic(levels=7, diagonal=0.5)(n, generator=generator)
    lengths = (found.t - found.s)[: found.apart]
    assert found.apart == 350
    assert sorted(set(lengths.tolist())) == [2.0**-i for i in range(6, -1, -1)]
    assert ((found.s[: found.apart] / lengths) % 1 == 0).all()
    assert torch.equal(found.r - found.s, (found.t - found.s) / 2)
    assert (found.t[found.apart :] == found.s[found.apart :]).all()

    steps = NextStep(Uniform(), HALVES, step=0.01, halvings=3)
    for progress, h in ((0.0, 0.08), (0.3, 0.04), (0.74, 0.02), (0.75, 0.01), (1.0, 0.01)):
        found = steps(n, progress, generator=generator)
        assert float((found.r - found.s).max()) == pytest.approx(h, rel=1e-4)
        assert (found.r <= found.t).all()
        assert set(found.t.tolist()) == {0.5, 1.0}


def test_ratio_of_noise_levels_begins_at_denoising():
    """``r = 0`` at low noise in the first stage; the ratio tightens from stage to stage."""
    times = EDMLogNormal(-1.1, 2.0)
    ratio = Ratio(times, stages=8)
    draws = [torch.Generator().manual_seed(0) for _ in range(3)]
    early, late = (ratio(4000, p, generator=g) for p, g in zip((0.0, 0.99), draws, strict=False))
    assert torch.equal(early.s, late.s)
    level = (1 - early.s) / early.s
    near = 1 + 8 * torch.sigmoid(-level)
    expected = (level * (1 - near / 2)).clamp(min=0)
    torch.testing.assert_close((1 - early.r) / early.r, expected, rtol=1e-3, atol=1e-5)
    assert (early.r[level < 0.5] == 1).all()
    assert (late.r <= early.r).all()
    assert (late.r >= late.s).all()
    tight = (level * (1 - near / 256)).clamp(min=0)
    torch.testing.assert_close((1 - late.r) / late.r, tight, rtol=1e-3, atol=1e-5)


def test_ratio_of_noise_levels_by_its_formula_in_every_stage():
    """``max(0, l (1 - 2^-stage n(l)))``, which grows with the stage at every level."""
    level = torch.cat([torch.linspace(0.01, 5, 200), torch.tensor([20.0, 80.0])]).double()

    class Given:
        def __call__(self, n, *, generator=None, device=None):
            return 1 / (1 + level)

        def density(self, t):
            return torch.ones_like(t)

    ratio, before = Ratio(Given(), stages=8), torch.zeros_like(level)
    for stage in range(8):
        found = ratio(len(level), (stage + 0.5) / 8)
        expected = level * (1 - (1 + 8 / (1 + level.exp())) / 2 ** (stage + 1))
        left = 1 / found.r - 1
        torch.testing.assert_close(left, expected.clamp(min=0), rtol=1e-12, atol=1e-12)
        assert bool(((left > before) | (expected <= 0)).all())
        assert bool(((left >= before) & (left < level)).all())
        before = left


def test_weights_of_steps():
    s, r, t = (torch.tensor([value]).double() for value in (0.4, 0.5, 1.0))
    assert float(Even()(PATH, s, r, t)) == 1
    assert float(PerStep()(PATH, s, r, t)) == pytest.approx(6)
    assert float(PerStep(2.0)(PATH, s, r, t)) == pytest.approx(36)
    # 1 / (l - l') = s r / (r - s) on the linear path
    assert float(PerNoiseStep()(PATH, s, r, t)) == pytest.approx(0.4 * 0.5 / 0.1)


def test_per_step_pushes_as_velocity_matching_does_when_steps_are_short(oracle):
    pair = oracle.sample(256, generator=torch.Generator().manual_seed(0))
    times, teacher = LogitNormal(0.0, 0.5), OfTeacher(oracle)
    pushes = []
    for objective in (
        Eulerian(PATH, ToEdge(times), teacher),
        Semigroup(PATH, NextStep(times, step=1e-3), AlongVelocity(teacher), weight=PerStep()),
        Semigroup(PATH, NextStep(times, step=1e-4), AlongVelocity(teacher), weight=PerStep()),
    ):
        student = ExactMap(oracle, (0.0, 1.0), error=0.5)
        objective(student, pair, generator=torch.Generator().manual_seed(1)).total().backward()
        assert student.error.grad is not None
        pushes.append(float(student.error.grad))
    assert pushes[1] == pytest.approx(pushes[0], rel=1e-2)
    assert pushes[2] == pytest.approx(pushes[0], rel=1e-3)


def test_bad_settings_are_told(oracle, generator):
    pair = oracle.sample(8, generator=generator)
    with pytest.raises(InputError, match="leads to the edges"):
        Semigroup(PATH, NextStep(), AlongPath())(ExactMap(oracle, HALVES), pair)
    with pytest.raises(InputError, match="none is given"):
        Semigroup(PATH, Middle(TwoTimes()), OwnJump())(ExactMap(oracle), pair)
    with pytest.raises(InputError, match="target_decay"):
        Semigroup(PATH, NextStep(), AlongPath(), target_decay=1.0)
    for make in (
        lambda: Middle(TwoTimes(), share=1.0),
        lambda: Dyadic(levels=0),
        lambda: NextStep(step=0.0),
        lambda: Ratio(Uniform(), stages=0),
        lambda: Approach(TwoTimes(), snap=0.5),
        lambda: PerStep(-1.0),
    ):
        with pytest.raises(InputError, match="must be"):
            make()


def test_data_alone_teach_the_velocity_where_there_is_no_length(oracle, generator):
    pair = oracle.sample(64, generator=generator)
    objective = Semigroup(PATH, Dyadic(diagonal=1.0), OwnJump(), velocity=OfData())
    loss = objective(ExactMap(oracle), pair, generator=generator)
    point = PATH.sample(pair, loss.t)
    scatter = (point.v_t - oracle(point.x_t, loss.t)).square().mean(dim=1)
    torch.testing.assert_close(loss.value.detach(), scatter)


def test_times_out_of_order_are_told(oracle, generator):
    """Values are checked in tests and with debug=true."""

    def backwards(n, progress=1.0, *, generator=None, device=None):
        ones = torch.ones(n)
        return Triples(0.5 * ones, 0.25 * ones, ones, n)

    objective = Semigroup(PATH, backwards, OwnJump())
    pair = oracle.sample(4, generator=generator)
    with pytest.raises(ValueError, match="the first part r - s of an interval must be >="):
        objective(ExactMap(oracle), pair, generator=generator)
