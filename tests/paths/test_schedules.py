import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import EDM, VP, Cosine, Linear, LinearVP, Polynomial, Trig
from flowgen.paths.schedule import SINGULAR_GAP


def closed(schedule, n=101, dtype=torch.float64):
    low, high = schedule.domain
    return torch.linspace(low, high, n, dtype=torch.float64).to(dtype).clamp(low, high)


def parts(c):
    return {"alpha": c.alpha, "sigma": c.sigma, "d_alpha": c.d_alpha, "d_sigma": c.d_sigma}


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [
        (Linear(), (0, 1), (1, 0)),
        (Linear(0.07), (0, 1), (1, 0.07)),
        (Trig(), (0, 1), (1, 0)),
        (LinearVP(), (0, 1), (1, 0)),
        (VP(), (math.exp(-5.025), math.sqrt(1 - math.exp(-10.05))), (1, 0)),
        (Cosine(), (0, 1), (1, 0)),
        (Polynomial(2.5), (0, 1), (1, 0)),
        (Polynomial(0.6), (0, 1), (1, 0)),
        (EDM(), (1 / 81, 80 / 81), (1 / 1.002, 0.002 / 1.002)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends(schedule, start, end, dtype):
    """The limits at 0 and 1, which for alpha and sigma exist even where a slope does not."""
    c = schedule(torch.tensor([0.0, 1.0], dtype=dtype))
    found = torch.stack([c.alpha, c.sigma], dim=1)
    torch.testing.assert_close(found, torch.tensor([start, end]).to(dtype), atol=1e-6, rtol=0)


def test_values_at_a_quarter():
    """Values of the papers' own formulas, worked out by hand for t = 0.25 (u = 0.75)."""
    t = torch.tensor([0.25], dtype=torch.float64)
    total = 0.75**2 * 19.9 / 2 + 0.75 * 0.1
    a_bar = math.cos(0.758 / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    level = (80 ** (1 / 7) + 0.25 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    expected = {
        Linear(0.1): (0.25, 1 - 0.9 * 0.25),
        Trig(): (math.sin(math.pi / 8), math.cos(math.pi / 8)),
        LinearVP(): (0.25, math.sqrt(1 - 0.0625)),
        VP(): (math.exp(-total / 2), math.sqrt(1 - math.exp(-total))),
        Cosine(): (math.sqrt(a_bar), math.sqrt(1 - a_bar)),
        Polynomial(3.0): (0.25**3, 1 - 0.25**3),
        EDM(): (1 / (1 + level), level / (1 + level)),
    }
    for schedule, (alpha, sigma) in expected.items():
        c = schedule(t)
        assert float(c.alpha) == pytest.approx(alpha, rel=1e-12)
        assert float(c.sigma) == pytest.approx(sigma, rel=1e-12)


def test_edm_grid_is_edms():
    """A uniform grid of n - 1 steps gives levels i = 0 .. n-1 of Karras 2022, eq. 5."""
    n, schedule = 18, EDM()
    i = torch.arange(n, dtype=torch.float64)
    levels = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    c = schedule(torch.linspace(0, 1, n, dtype=torch.float64))
    torch.testing.assert_close(c.sigma / c.alpha, levels, rtol=1e-12, atol=0)


def test_slopes_are_derivatives(schedule, times):
    c = schedule(times)
    for value, slope in (("alpha", c.d_alpha), ("sigma", c.d_sigma)):
        _, tangent = torch.func.jvp(
            lambda t, name=value: parts(schedule(t))[name], (times,), (torch.ones_like(times),)
        )
        torch.testing.assert_close(slope, tangent, rtol=1e-10, atol=1e-10)


def test_finite_on_the_closed_domain_in_both_types(schedule):
    low, high = schedule.domain
    assert 0 <= low < high <= 1
    assert low in (0, SINGULAR_GAP)
    assert high in (1, 1 - SINGULAR_GAP)
    exact = parts(schedule(closed(schedule)))
    single = parts(schedule(closed(schedule, dtype=torch.float32)))
    for name, value in exact.items():
        assert value.isfinite().all()
        assert single[name].dtype == torch.float32
        assert single[name].isfinite().all()
    for name in ("alpha", "sigma"):
        assert (single[name] >= 0).all()
        assert (single[name] <= 1).all()


def test_float32_agrees_with_float64(schedule):
    """Against the true value at the rounded time: a few last places, ends included."""
    t = closed(schedule, dtype=torch.float32)
    single, exact = parts(schedule(t)), parts(schedule(t.double()))
    for name, value in exact.items():
        torch.testing.assert_close(single[name].double(), value, rtol=1e-5, atol=2e-7, msg=name)


def test_snr_grows_and_the_wronskian_is_its_sign(schedule):
    t = closed(schedule)[1:]
    assert (schedule.snr(t).diff() > 0).all()
    assert (schedule(t).wronskian > 0).all()
    inner = t[:-1]
    torch.testing.assert_close(schedule.log_snr(inner), 2 * schedule.snr(inner).log())


def test_snr_round_trip_on_the_closed_domain(schedule):
    t = closed(schedule)
    torch.testing.assert_close(schedule.snr_inverse(schedule.snr(t)), t, rtol=0, atol=1e-9)
    single = closed(schedule, dtype=torch.float32)
    back = schedule.snr_inverse(schedule.snr(single))
    torch.testing.assert_close(back, single, rtol=0, atol=1e-5)


def test_ratios_never_reached_give_the_nearer_end(schedule):
    low, high = schedule.domain
    found = schedule.snr_inverse(torch.tensor([0.0, math.inf], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([low, high], dtype=torch.float64))


def test_only_the_ratio_matters(schedule, times):
    c = schedule(times)
    torch.testing.assert_close(schedule.time_of(7 * c.alpha, 7 * c.sigma), times)


def test_variance_preserving_ones_preserve_variance(times):
    for schedule in (Trig(), LinearVP(), VP(), Cosine()):
        c = schedule(times)
        power = c.alpha.square() + c.sigma.square()
        torch.testing.assert_close(power, torch.ones_like(times), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(-0.1), "sigma_min must be"),
        (lambda: Linear(1.0), "sigma_min must be"),
        (lambda: VP(0.0, 20.0), "0 < beta_min"),
        (lambda: VP(3.0, 2.0), "0 < beta_min"),
        (lambda: Cosine(0.0), "offset must be"),
        (lambda: Polynomial(0.0), "power must be"),
        (lambda: Polynomial(math.inf), "power must be"),
        (lambda: EDM(0.0), "0 < sigma_min"),
        (lambda: EDM(2.0, 1.0), "0 < sigma_min"),
        (lambda: EDM(rho=0.5), "rho must be"),
        (lambda: VP(math.nan, 20.0), "0 < beta_min"),
    ],
)
def test_bad_arguments_raise(make, message):
    with pytest.raises(InputError, match=message):
        make()
