"""Variants of guidance against the closed forms of two Gaussians and of parallel velocities."""

import pytest
import torch

from flowgen.core import InputError, domain_of
from flowgen.models import (
    Autoguidance,
    AutoGuided,
    CFGZero,
    ClassifierFree,
    Extrapolate,
    Guided,
    LabelConditioner,
    Projected,
    Rescaled,
    ZeroInit,
)
from flowgen.paths import AffinePath, Linear, Trig
from oracles import GaussianOracle

NULL = LabelConditioner(1).null
MEAN = torch.tensor([1.5, -0.5], dtype=torch.float64)
CONDITIONAL = GaussianOracle(MEAN, torch.eye(2))
NULL_ORACLE = GaussianOracle(torch.zeros(2), torch.eye(2))


class Field:
    """N(MEAN, I) for label 0, N(0, I) for the null label; counts the rows it is asked for."""

    def __init__(self):
        self.rows = []

    def __call__(self, x, t, cond=None):
        self.rows.append(len(x))
        label = cond["label"][:, None]
        return torch.where(label == 0, CONDITIONAL(x, t), NULL_ORACLE(x, t))


def state(b=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(b, 2, generator=generator, dtype=torch.float64)
    return x, torch.linspace(0.05, 0.95, b, dtype=torch.float64), {"label": torch.zeros(b).long()}


def random_pair(shape=(5, 3, 4, 4), dtype=torch.float64):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def test_an_interval_guides_inside_and_costs_one_pass_outside():
    x, t, cond = state()
    field = Field()
    guided = Guided(field, 3.0, NULL, interval=(0.2, 0.7))
    v = guided(x, t, cond)
    inside = (t >= 0.2) & (t < 0.7)
    expected = torch.where(
        inside[:, None], Guided(Field(), 3.0, NULL)(x, t, cond), CONDITIONAL(x, t)
    )
    torch.testing.assert_close(v, expected)
    assert field.rows == [12]
    assert guided.breaks == (0.2, 0.7)
    late = torch.full((6,), 0.7, dtype=torch.float64)
    torch.testing.assert_close(guided(x, late, cond), CONDITIONAL(x, late), rtol=0, atol=0)
    assert field.rows == [12, 6]
    early = torch.full((6,), 0.2, dtype=torch.float64)
    assert not torch.allclose(guided(x, early, cond), CONDITIONAL(x, early))


def test_the_ends_of_the_whole_interval_are_no_breaks():
    assert Guided(Field(), 3.0, NULL, interval=(0.0, 1.0)).breaks == ()
    assert Guided(Field(), 3.0, NULL).breaks == ()


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_zero_star_returns_the_conditional_velocity_when_the_null_is_parallel(scale):
    v_null, _ = random_pair()
    factor = torch.tensor([2.0, -0.5, 1.0, 0.1, 3.0], dtype=torch.float64)[:, None, None, None]
    v_cond = factor * v_null
    got = Projected(Extrapolate(scale))(v_null, v_cond)
    torch.testing.assert_close(got, v_cond, rtol=1e-7, atol=1e-7)


def test_zero_star_is_the_least_squares_fit():
    v_null, v_cond = random_pair()
    got = Projected(Extrapolate(0.0))(v_null, v_cond)
    fits = [
        torch.linalg.lstsq(null.reshape(-1, 1), cond.reshape(-1, 1)).solution.item()
        for null, cond in zip(v_null, v_cond, strict=True)
    ]
    expected = torch.tensor(fits).double()[:, None, None, None] * v_null
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_zero_star_fits_in_float32_when_the_network_answers_in_half():
    v_null, v_cond = random_pair(shape=(3, 4096))
    got = Projected(Extrapolate(2.0))(v_null.bfloat16(), v_cond.bfloat16())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(
        got.double(), Projected(Extrapolate(2.0))(v_null, v_cond), rtol=0.05, atol=0.05
    )


def test_rescaling_restores_the_spread_and_mixes_by_phi():
    v_null, v_cond = random_pair()
    plain = Extrapolate(4.0)
    full = Rescaled(plain, 1.0)(v_null, v_cond)
    std = full.flatten(1).std(dim=1, correction=0)
    torch.testing.assert_close(std, v_cond.flatten(1).std(dim=1, correction=0), rtol=1e-5, atol=0)
    half = Rescaled(plain, 0.3)(v_null, v_cond)
    expected = 0.3 * full + 0.7 * plain(v_null, v_cond)
    torch.testing.assert_close(half, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(Rescaled(plain, 0.0)(v_null, v_cond), plain(v_null, v_cond))


def test_constant_velocities_rescale_to_finite_ones():
    v = Rescaled(Extrapolate(2.0), 0.7)(torch.zeros(2, 3), torch.ones(2, 3))
    assert v.isfinite().all()


def test_the_field_waits_until_its_time():
    x, t, cond = state()
    field = Field()
    waiting = ZeroInit(field, 0.5)
    v = waiting(x, t, cond)
    assert torch.equal(v[t < 0.5], torch.zeros_like(v[t < 0.5]))
    torch.testing.assert_close(v[t >= 0.5], CONDITIONAL(x, t)[t >= 0.5])
    assert field.rows == [6]
    assert torch.equal(waiting(x, t * 0.1, cond), torch.zeros_like(x))
    assert field.rows == [6]  # nothing to evaluate
    assert waiting.breaks == (0.5,)


def test_breaks_and_domain_add_up():
    inner = Guided(Field(), 2.0, NULL, interval=(0.2, 0.7))
    inner.field.domain = (0.1, 0.9)
    outer = ZeroInit(inner, 0.3)
    assert outer.breaks == (0.2, 0.3, 0.7)
    assert domain_of(outer) == (0.1, 0.9)


def test_autoguidance_is_exact_on_gaussians():
    """Main N(m, I), weak N(k m, I): the difference does not depend on x, so samples are
    x_0 + m + (scale - 1) (1 - k) m."""
    weak = GaussianOracle(0.4 * MEAN, torch.eye(2))
    guided = AutoGuided(CONDITIONAL, weak, 3.0)
    x_0, _, _ = state(40)
    x, steps = x_0, 200
    for step in range(steps):  # the midpoint rule
        t = torch.full((40,), step / steps, dtype=torch.float64)
        middle = x + guided(x, t) / (2 * steps)
        x = x + guided(middle, t + 0.5 / steps) / steps
    torch.testing.assert_close(x, x_0 + (1 + 2 * 0.6) * MEAN, rtol=0, atol=1e-4)


def test_autoguidance_at_1_leaves_the_weak_model_alone():
    def weak(x, t, cond=None):
        raise AssertionError("evaluated")

    x, t, _ = state()
    assert torch.equal(AutoGuided(CONDITIONAL, weak, 1.0)(x, t), CONDITIONAL(x, t))


def test_autoguidance_refuses_another_path():
    def on(schedule):
        field = GaussianOracle(MEAN, torch.eye(2))
        field.path = AffinePath(schedule)
        return field

    AutoGuided(on(Linear()), on(Linear()), 2.0)
    with pytest.raises(InputError, match="another path"):
        AutoGuided(on(Linear()), on(Trig()), 2.0)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (ClassifierFree(1.0), Field),
        (ClassifierFree.from_w(0.0), Field),
        (CFGZero(1.0), Field),
        (Autoguidance(CONDITIONAL, 1.0), Field),
        (ClassifierFree(2.0), Guided),
        (CFGZero(2.0), Guided),
        (CFGZero(2.0, zero_until=0.1), ZeroInit),
        (CFGZero(1.0, zero_until=0.1), ZeroInit),
        (Autoguidance(CONDITIONAL, 2.0), AutoGuided),
    ],
)
def test_rules_wrap_only_what_they_must(rule, kind):
    assert type(rule(Field(), NULL)) is kind


def test_both_conventions_give_one_velocity():
    x, t, cond = state()
    ours = ClassifierFree(3.0, interval=[0.1, 0.8], rescale=0.5)(Field(), NULL)(x, t, cond)
    theirs = ClassifierFree.from_w(2.0, [0.1, 0.8], 0.5)(Field(), NULL)(x, t, cond)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassifierFree(-1.0), "scale must be finite and at least 0"),
        (lambda: ClassifierFree(2.0, interval=[0.7, 0.2]), "two rising times"),
        (lambda: ClassifierFree(2.0, interval=[0.7]), "must be two times"),
        (lambda: ClassifierFree(2.0, rescale=1.5), r"rescale must be in \[0, 1\]"),
        (lambda: CFGZero(2.0, zero_until=1.0), "zero_until"),
        (lambda: CFGZero(float("nan")), "scale must be finite"),
        (lambda: ZeroInit(Field(), 0.0), "zero_until"),
        (lambda: AutoGuided(CONDITIONAL, CONDITIONAL, -1.0), "scale must be finite"),
        (lambda: ClassifierFree(2.0)(Field(), None), "needs a conditional model"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
