"""Improved consistency training: its grid of noise levels, distances, and what holds it at data."""

import math

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError
from flowgen.distill import (
    AlongPath,
    Denoising,
    Doubling,
    Middle,
    NextStep,
    NoiseGrid,
    OwnJump,
    PerNoiseStep,
    Ratio,
    SameNoise,
    Semigroup,
    ShrinkingCauchy,
    TwoTimes,
)
from flowgen.objectives import Cauchy, EDMLogNormal, PseudoHuber
from flowgen.paths import EDM, AffinePath, Linear, Trig
from oracles import GaussianOracle

PATH = AffinePath(Linear())
MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])


@pytest.fixture
def oracle():
    return GaussianOracle(MEAN, COV)


def test_number_of_intervals_doubles_in_equal_stages():
    """The published run: 400k steps, 8 stages of 50k, 10 to 1280 intervals."""
    count = Doubling(10, 1280)
    assert count.stages == 8
    found = [count(step / 400_000) for step in range(0, 400_000, 50_000)]
    assert found == [10, 20, 40, 80, 160, 320, 640, 1280]
    assert count(49_999 / 400_000) == 10
    assert count(1.0) == 1280
    assert [Doubling(10, 1000)(p) for p in (0.0, 1.0)] == [10, 640]
    assert Doubling(7, 7)(0.5) == 7


def test_levels_and_shares_are_those_published():
    grid = NoiseGrid(Doubling())
    levels = grid.levels(20)
    assert len(levels) == 21
    assert float(levels[0]) == pytest.approx(0.002)
    assert float(levels[-1]) == pytest.approx(80.0)
    steps = (levels ** (1 / 7)).diff()
    torch.testing.assert_close(steps, steps[:1].expand(20))
    shares = grid.shares(20)
    assert float(shares.sum()) == pytest.approx(1.0, abs=1e-12)
    normal = torch.distributions.Normal(-1.1, 2.0)
    mass = normal.cdf(levels.log()).diff()
    torch.testing.assert_close(shares, mass / mass.sum())


def test_triples_are_neighbours_as_often_as_their_share(generator):
    n = 20_000
    grid = NoiseGrid(Doubling(10, 20))
    for progress, count in ((0.0, 10), (0.9, 20)):
        found = grid(n, progress, generator=generator)
        assert found.apart == n
        assert (found.t == 1).all()
        times = (1 / (1 + grid.levels(count))).float()
        which = (times[:, None] == found.s[None]).float().argmax(dim=0)
        assert torch.equal(times[which], found.s)
        assert torch.equal(times[which - 1], found.r)
        shares = torch.bincount(which - 1, minlength=count) / n
        error = (grid.shares(count) / n).sqrt()
        assert ((shares - grid.shares(count)).abs() < 4 * error + 1e-9).all()


def test_weight_is_that_of_the_step_of_the_level(generator):
    grid = NoiseGrid(Doubling(20, 20))
    found = grid(64, generator=generator)
    s, r, t = (x.double() for x in (found.s, found.r, found.t))
    levels = grid.levels(20)
    which = (levels[None] - ((1 - s) / s)[:, None]).abs().argmin(dim=1)
    expected = 1 / (levels[which] - levels[which - 1])
    # Times are float32, whose rounding shows in the smallest levels.
    torch.testing.assert_close(PerNoiseStep()(PATH, s, r, t), expected, rtol=1e-2, atol=0)
    torch.testing.assert_close(PerNoiseStep()(PATH, s, r, t), s * r / (r - s))


def test_weight_is_the_inverse_step_of_the_level_at_exact_times():
    levels = NoiseGrid(Doubling()).levels(40)
    times = 1 / (1 + levels)
    s, r = times[1:], times[:-1]
    weight = PerNoiseStep()(PATH, s, r, torch.ones_like(s))
    torch.testing.assert_close(weight, 1 / levels.diff(), rtol=1e-10, atol=0)
    torch.testing.assert_close(weight, s * r / (r - s), rtol=1e-10, atol=0)


@pytest.mark.parametrize("schedule", [Trig(), EDM()], ids=["trig", "edm"])
def test_same_noise_on_another_path(schedule):
    path = AffinePath(schedule)
    triples = Ratio(EDMLogNormal(-1.1, 2.0))
    linear, other = (
        sampler(200, generator=torch.Generator().manual_seed(0))
        for sampler in (triples, SameNoise(path, triples))
    )
    inside = (linear.s > 0.02) & (linear.r < 0.98)
    for here, there in ((linear.s, other.s), (linear.r, other.r)):
        c = path.coefficients(there[inside].double())
        level = (1 - here[inside]) / here[inside]
        torch.testing.assert_close((c.sigma / c.alpha).float(), level, rtol=2e-3, atol=1e-4)
    assert (other.s <= other.r).all()
    assert SameNoise(path, triples).edges == (0.0, 1.0)


def test_same_noise_on_the_linear_path_changes_nothing():
    triples = NoiseGrid(Doubling())
    one, other = (
        sampler(64, generator=torch.Generator().manual_seed(0))
        for sampler in (triples, SameNoise(PATH, triples))
    )
    assert torch.equal(one.s, other.s)
    assert torch.equal(one.r, other.r)
    assert torch.equal(one.t, other.t)


def test_scale_of_the_distance_follows_the_grid():
    """``c(N)`` of the released code, and its first stage."""
    schedule = ShrinkingCauchy(Doubling(10, 640))
    found = [schedule.at((stage + 0.5) / 7) for stage in range(7)]
    expected = [0.03456, 0.01364, 0.00614, 0.00277, 0.00125, 0.00056, 0.00025]
    assert all(isinstance(distance, Cauchy) for distance in found)
    scales = [distance.c for distance in found]  # pyright: ignore[reportAttributeAccessIssue]
    assert scales == pytest.approx(expected, abs=6e-6)
    twice = ShrinkingCauchy(Doubling(10, 640), scale=2.0).at(0.0)
    assert twice.c == pytest.approx(2 * 0.03456)  # pyright: ignore[reportAttributeAccessIssue]


def test_outliers_pull_the_cauchy_distance_no_more():
    """Influence at ``e = 100 c`` over the largest there is: 0.0283, and near 1 for pseudo-Huber."""
    c = 0.01
    e = torch.linspace(0, 200 * c, 20_001, dtype=torch.float64)[:, None].requires_grad_(True)
    for distance, low, high in ((Cauchy(c), 0.0282, 0.0284), (PseudoHuber(c), 0.99, 1.01)):
        (influence,) = torch.autograd.grad(distance(e).sum(), e)
        until = influence[:10_001, 0]
        if isinstance(distance, Cauchy):
            assert float(e[until.argmax()]) == pytest.approx(math.sqrt(2) * c, abs=0.01 * c)
        assert low < float(until[-1] / until.max()) < high


def test_distance_of_the_stage_is_used(oracle, generator):
    pair = oracle.sample(32, generator=generator)
    grid, first = NoiseGrid(Doubling(10, 40)), AlongPath()
    objective = Semigroup(PATH, grid, first, distance=ShrinkingCauchy(grid.count))
    objective.total_steps = 30
    student = ExactMap(oracle, (0.0, 1.0), error=0.1)
    for step, n in ((0, 10), (10, 20), (29, 40)):
        c = 0.03456 if n == 10 else n**-1.15 * math.exp(-0.85)
        other = Semigroup(PATH, NoiseGrid(Doubling(n, n)), first, distance=Cauchy(c))
        losses = [
            o(student, pair, step=step, generator=torch.Generator().manual_seed(1)).value
            for o in (objective, other)
        ]
        torch.testing.assert_close(*losses)


def test_little_noise_is_regressed_and_the_rest_is_not(oracle):
    """The mean over a batch is the weight times the mean over the rows with little noise."""
    pair = oracle.sample(256, generator=torch.Generator().manual_seed(0))
    student = ExactMap(oracle, (0.0, 1.0), error=0.2)
    grid = NoiseGrid(Doubling(20, 20))
    denoising = Denoising(5.0, level=0.17)
    plain, more = (
        Semigroup(PATH, grid, AlongPath(), ends=True, denoising=d)(
            student, pair, generator=torch.Generator().manual_seed(1)
        )
        for d in (None, denoising)
    )
    extra = (more.value - plain.value).detach()
    s = more.t
    level = (1 - s) / s
    chosen = level <= 0.17
    assert 0 < int(chosen.sum()) < 256
    assert (extra[~chosen] == 0).all()
    x = PATH.sample(pair, s).x_t
    ends = x + (1 - s)[:, None] * student.mean_velocity(x, s, torch.ones_like(s))
    error = (ends - pair.x_1).square().mean(dim=1).detach()
    mean = ((level**-2 + 4) * error)[chosen].mean()
    assert float(extra.mean()) == pytest.approx(5 * float(mean))
    torch.testing.assert_close(more.terms["denoising"], extra)


def test_nothing_chosen_is_no_trouble(oracle, generator):
    pair = oracle.sample(4, generator=generator)
    s = torch.full((4,), 0.2).double()
    assert (Denoising()(PATH, pair, pair.x_0, s) == 0).all()


def test_regression_is_learnt_from(oracle, generator):
    pair = oracle.sample(64, generator=generator)
    student = ExactMap(oracle, (0.0, 1.0), error=0.0)
    triples = NextStep(step=0.01)
    objective = Semigroup(PATH, triples, AlongPath(), denoising=Denoising(level=100.0))
    loss = objective(student, pair, generator=generator)
    (grad,) = torch.autograd.grad(loss.terms["residual"].sum() * 0 + loss.total(), student.error)
    assert float(grad.abs()) > 0
    assert not loss.terms["denoising"].requires_grad


def test_bad_settings_are_told(oracle):
    for make, match in (
        (lambda: Doubling(0, 3), "first and last"),
        (lambda: Doubling(4, 3), "first and last"),
        (lambda: NoiseGrid(Doubling(), smallest=0.0), "levels"),
        (lambda: NoiseGrid(Doubling(), std=0.0), "std"),
        (lambda: NoiseGrid(Doubling(), mean=math.inf), "mean"),
        (lambda: ShrinkingCauchy(Doubling(), first=0.0), "first"),
        (lambda: ShrinkingCauchy(Doubling(), slope=-1.0), "slope"),
        (lambda: Denoising(0.0), "denoising.weight"),
        (lambda: SameNoise(PATH, NextStep(edges=(0.0, 0.5, 1.0))), "only the edges"),
        (
            lambda: Semigroup(
                PATH, Middle(TwoTimes(diagonal=0.0)), OwnJump(), denoising=Denoising()
            ),
            "lead to the data",
        ),
        (
            lambda: Semigroup(
                PATH, NextStep(edges=(0.0, 0.5, 1.0)), AlongPath(), denoising=Denoising()
            ),
            "lead to the data",
        ),
        (lambda: Semigroup(PATH, NextStep(), AlongPath(), settled=1.0), "settled"),
    ):
        with pytest.raises(InputError, match=match):
            make()
