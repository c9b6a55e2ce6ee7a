"""Draws against densities, densities against closed forms, and what a shift does."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.objectives import (
    CosMap,
    EDMLogNormal,
    LogitNormal,
    Mode,
    Shifted,
    Stratified,
    TimeSampler,
    Uniform,
    UShaped,
)

SAMPLERS = [
    Uniform(),
    Stratified(),
    LogitNormal(),
    LogitNormal(-0.7, 0.4),
    EDMLogNormal(),
    Mode(),
    Mode(-0.9),
    Mode(1.7),
    Mode(0.0),
    CosMap(),
    UShaped(),
    UShaped(1.3),
    Shifted(Uniform(), 3.0),
    Shifted(LogitNormal(0.3, 0.8), 0.4),
    Shifted(UShaped(), 2.0),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def integrated(sampler):
    """Times and the integral of the density up to them, by trapezoids in logit t, in float64."""
    z = torch.linspace(-20, 20, 40_001, dtype=torch.float64)
    t = torch.sigmoid(z)
    per_logit = sampler.density(t) * t * (1 - t)
    area = torch.cumulative_trapezoid(per_logit, z)
    return t, torch.cat([torch.zeros(1, dtype=torch.float64), area])


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_density_is_positive_and_integrates_to_one(sampler):
    t, area = integrated(sampler)
    assert isinstance(sampler, TimeSampler)
    assert float(sampler.density(t).min()) > -1e-300
    assert float(area[-1]) == pytest.approx(1, abs=1e-5)  # of the trapezoids, at Mode's peak


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_draws_follow_the_density(sampler, generator):
    n = 100_000
    times = sampler(n, generator=generator)
    assert times.dtype == torch.float32
    t, area = integrated(sampler)
    drawn = torch.searchsorted(times.double().sort().values, t, right=True) / n
    # The distance of the true distribution exceeds 0.0062 once in 1000 draws.
    assert float((drawn - area).abs().max()) < 0.01


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_draws_come_from_the_generator_alone(sampler):
    before = torch.random.get_rng_state()
    first, second, other = (sampler(50, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert sampler(3).shape == (3,)
    assert sampler(1, generator=seeded(), device="cpu").shape == (1,)
    assert sampler(0).shape == (0,)
    with pytest.raises(InputError, match="n must be >= 0"):
        sampler(-1)


@pytest.mark.parametrize(
    "sampler",
    [LogitNormal(60.0), LogitNormal(-60.0), Shifted(Uniform(), 1e12), Shifted(Uniform(), 1e-12)],
    ids=str,
)
def test_times_stay_strictly_inside(sampler, generator):
    times = sampler(1000, generator=generator)
    assert float(times.min()) > 0
    assert float(times.max()) < 1
    assert bool((torch.log(times) + torch.log1p(-times)).isfinite().all())


@pytest.mark.gpu
def test_times_come_back_on_the_device_asked_for():
    on_device = torch.Generator("cuda").manual_seed(0)
    for sampler in SAMPLERS:
        assert sampler(4, generator=on_device).is_cuda
        assert sampler(4, generator=seeded(), device="cuda").is_cuda
        assert torch.equal(
            sampler(4, generator=seeded(), device="cuda").cpu(), sampler(4, generator=seeded())
        )


def test_stratified_draws_one_time_in_each_stratum_in_random_order(generator):
    times = Stratified()(64, generator=generator)
    strata = (times * 64).floor().long()
    assert torch.equal(strata.sort().values, torch.arange(64))
    assert not torch.equal(strata, torch.arange(64))
    firsts = torch.stack([Stratified()(2, generator=generator)[0] for _ in range(1000)])
    # A row's time does not know its place: 1000 fair coins, standard error 0.016.
    assert float((firsts < 0.5).float().mean()) == pytest.approx(0.5, abs=0.08)


def test_edm_levels_are_log_normal(generator):
    t = EDMLogNormal(-1.2, 1.1)(100_000, generator=generator).double()
    log_level = torch.log((1 - t) / t)
    assert float(log_level.mean()) == pytest.approx(-1.2, abs=0.02)  # 6 standard errors
    assert float(log_level.std()) == pytest.approx(1.1, abs=0.015)


def test_cosmap_has_the_ratios_of_the_trigonometric_path():
    u, t = Uniform()(100, generator=seeded()), CosMap()(100, generator=seeded())
    torch.testing.assert_close(t / (1 - t), torch.tan(math.pi / 2 * u), rtol=1e-4, atol=1e-6)


def test_densities_at_known_times():
    """Values by hand, at times where the two halves of [0, 1] differ."""
    t = torch.tensor([0.2, 0.5], dtype=torch.float64)
    normal = math.exp(-(((math.log(0.25) - 1) / 2) ** 2) / 2) / (2 * math.sqrt(2 * math.pi))
    assert float(LogitNormal(1.0, 2.0).density(t)[0]) == pytest.approx(normal / 0.16, rel=1e-12)
    assert float(EDMLogNormal(-1.0, 2.0).density(t)[0]) == pytest.approx(normal / 0.16, rel=1e-12)
    expected = 2 / (math.pi - 2 * math.pi * 0.2 + 2 * math.pi * 0.04)
    assert float(CosMap().density(t)[0]) == pytest.approx(expected, rel=1e-12)
    expected = 4 * (math.exp(0.8) + math.exp(3.2)) / (2 * (math.exp(4) - 1))
    assert float(UShaped(4).density(t)[0]) == pytest.approx(expected, rel=1e-12)
    # f(1/2) = 1/2 and f'(1/2) = 1 + scale (1 - pi / 2).
    expected = 1 / (1 + 1.29 * (1 - math.pi / 2))
    assert float(Mode(1.29).density(t)[1]) == pytest.approx(expected, rel=1e-10)
    expected = 3 / (1 + 2 * 0.2) ** 2
    assert float(Shifted(Uniform(), 3.0).density(t)[0]) == pytest.approx(expected, rel=1e-12)


def test_shift_moves_the_logit_towards_the_noise():
    base, shifted = LogitNormal(0.3, 0.8), Shifted(LogitNormal(0.3, 0.8), 2.5)
    plain, moved = base(500, generator=seeded()), shifted(500, generator=seeded())
    torch.testing.assert_close(torch.logit(moved), torch.logit(plain) - math.log(2.5))
    same = LogitNormal(0.3 - math.log(2.5), 0.8)
    torch.testing.assert_close(same(500, generator=seeded()), moved)
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    torch.testing.assert_close(shifted.density(t), same.density(t), rtol=1e-10, atol=1e-12)


def test_shifts_multiply():
    twice, once = Shifted(Shifted(UShaped(), 1.7), 0.9), Shifted(UShaped(), 1.7 * 0.9)
    torch.testing.assert_close(twice(500, generator=seeded()), once(500, generator=seeded()))
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    torch.testing.assert_close(twice.density(t), once.density(t), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogitNormal(math.nan), "mean must be finite, got nan"),
        (lambda: LogitNormal(0.0, 0.0), "std must be positive and finite, got 0.0"),
        (lambda: EDMLogNormal(math.inf), "P_mean must be finite"),
        (lambda: EDMLogNormal(0.0, -1.0), "P_std must be positive"),
        (lambda: Mode(-1.01), "scale must be in"),
        (lambda: Mode(2 / (math.pi - 2) + 1e-6), r"1\.7519\], where the times are monotone"),
        (lambda: UShaped(0.0), "a must be in"),
        (lambda: UShaped(51.0), r"a must be in \(0, 50\], got 51.0"),
        (lambda: Shifted(Uniform(), 0.0), "shift must be positive"),
        (lambda: Shifted(Uniform(), math.inf), "shift must be positive"),
    ],
)
def test_parameters_are_checked(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_mode_is_monotone_up_to_both_limits():
    u = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    for scale in (-1.0, 2 / (math.pi - 2)):
        assert float(Mode(scale)._bent(u).diff().min()) > -1e-15
