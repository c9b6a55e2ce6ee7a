import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import (
    EDM,
    VP,
    AffinePath,
    Data,
    FromDiffusersFlow,
    FromEDM,
    FromTrigFlow,
    Linear,
    LinearVP,
    Rescheduled,
    ToDiffusersFlow,
    ToEDM,
    ToTrigFlow,
    Trig,
    TrigFlowPrediction,
    Velocity,
    convert,
    guidance_scale_from_w,
    score_from_velocity,
    to_trig_flow,
    w_from_guidance_scale,
)


def test_diffusers_model_is_noise_minus_data_at_the_reversed_time(mixture_on, states, times):
    oracle = mixture_on(Linear())

    def model(x, timestep, cond):
        t = 1 - timestep / 1000
        data, noise = oracle.posterior_means(x, t)
        return noise - data

    torch.testing.assert_close(FromDiffusersFlow(model)(states, times), oracle(states, times))
    found = ToDiffusersFlow(oracle)(states, 1000 * (1 - times))
    torch.testing.assert_close(found, model(states, 1000 * (1 - times), None))
    unit = ToDiffusersFlow(oracle, time_scale=1.0)(states, 1 - times)
    torch.testing.assert_close(unit, found)


@pytest.mark.parametrize("schedule", [Linear(), Trig(), VP(), EDM()])
def test_edm_denoiser_gives_the_velocity_of_any_path(schedule, mixture_on, states, times):
    """The denoiser is taken from the linear path alone, by x_t = t x_s, t = 1 / (1 + s)."""
    linear, path = mixture_on(Linear()), AffinePath(schedule)

    def denoiser(x, level, cond):
        t = 1 / (1 + level)
        return linear.data_mean(t[:, None] * x, t)

    field = FromEDM(denoiser, path)
    t = times.clamp(*field.domain)
    exact = mixture_on(schedule)(states, t)
    torch.testing.assert_close(field(states, t), exact, rtol=1e-8, atol=1e-8)
    back = ToEDM(mixture_on(schedule), path)
    level = 0.01 + 5 * times
    torch.testing.assert_close(
        back(states, level), denoiser(states, level, None), rtol=1e-8, atol=1e-8
    )


def test_edm_formula_of_the_spec_on_the_linear_path(states, times):
    """v = (D(x / t, (1 - t) / t) - x) / (1 - t)."""

    def denoiser(x, level, cond):
        return torch.sin(x) / (1 + level[:, None])

    t = times[:, None]
    expected = (torch.sin(states / t) / (1 + (1 - t) / t) - states) / (1 - t)
    inner = slice(5, 45)
    found = FromEDM(denoiser)(states[inner], times[inner])
    torch.testing.assert_close(found, expected[inner])


def test_edm_levels_stay_in_the_denoisers_range(states):
    seen = []

    def denoiser(x, level, cond):
        seen.append(level)
        return x

    field = FromEDM(denoiser, sigma_min=0.1, sigma_max=3.0)
    assert field.domain == pytest.approx((0.25, 1 / 1.1))
    v = field(states, torch.linspace(0, 1, 50, dtype=torch.float64))
    assert v.isfinite().all()
    assert float(seen[0].max()) == pytest.approx(3.0)
    assert float(seen[0].min()) == pytest.approx(0.1)


def test_edm_round_trip(mixture_on, states, times):
    path = AffinePath(LinearVP())
    oracle = mixture_on(LinearVP())
    there_and_back = FromEDM(ToEDM(oracle, path), path, sigma_max=1e4, sigma_min=1e-4)
    torch.testing.assert_close(
        there_and_back(states, times), oracle(states, times), rtol=1e-8, atol=1e-8
    )


def test_trigflow_is_the_derivative_in_the_angle(gaussian_on, times):
    """States cos(angle) x_1 + sin(angle) x_0; the exact flow in the angle has slope F."""
    oracle = gaussian_on(Trig())
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start, angle = torch.zeros_like(times), math.pi / 2 * (1 - times)

    def state(angle):
        return oracle.flow(x, start, 1 - angle * 2 / math.pi)

    moved, slope = torch.func.jvp(state, (angle,), (torch.ones_like(angle),))
    model = ToTrigFlow(oracle)
    torch.testing.assert_close(model(moved, angle), slope, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(FromTrigFlow(model)(moved, times), oracle(moved, times))


@pytest.mark.parametrize("schedule", [Trig(), VP(), EDM(), LinearVP()])
def test_another_schedule_and_back_to_rounding(schedule, gaussian_on, states):
    """``t = a / (a + s)``, ``x_t = x / (a + s)``: time, state, velocity, data and score."""
    r, x = torch.linspace(0.2, 0.8, 50, dtype=torch.float64), states[:, :3]
    c = schedule(r)
    length = (c.alpha + c.sigma)[:, None]
    t, x_t = c.alpha / length[:, 0], x / length
    there = Linear()(t)
    rounding = {"rtol": 1e-12, "atol": 1e-12}

    found, scale = Rescheduled(gaussian_on(Linear()), Linear(), schedule).match(r)
    torch.testing.assert_close(found, t, **rounding)
    torch.testing.assert_close(scale, length[:, 0], **rounding)
    torch.testing.assert_close(schedule.time_of(t, 1 - t), r, **rounding)

    linear = gaussian_on(Linear())
    field = Rescheduled(linear, Linear(), schedule)
    torch.testing.assert_close(field(x, r), gaussian_on(schedule)(x, r), **rounding)
    again = Rescheduled(field, schedule, Linear())
    torch.testing.assert_close(again(x_t, t), linear(x_t, t), **rounding)
    data = convert(field(x, r), x, c, Velocity(), Data())
    torch.testing.assert_close(data, x_t + (1 - t)[:, None] * linear(x_t, t), **rounding)
    score = score_from_velocity(field(x, r), x, c)
    expected = score_from_velocity(linear(x_t, t), x_t, there) / length
    torch.testing.assert_close(score, expected, **rounding)
    torch.testing.assert_close(score, gaussian_on(schedule).score(x, r), **rounding)


def test_denoiser_and_angle_and_back_to_rounding(mixture_on, states):
    oracle, std = mixture_on(Linear()), 0.5
    t = torch.linspace(0.05, 0.95, 50, dtype=torch.float64)
    v, c = oracle(states, t), Linear()(t)
    rounding = {"rtol": 1e-12, "atol": 1e-12}
    data, column = states + (1 - t)[:, None] * v, t[:, None]

    denoiser = ToEDM(oracle)
    torch.testing.assert_close(denoiser(states / column, (1 - t) / t), data, **rounding)
    torch.testing.assert_close(FromEDM(denoiser)(states, t), v, **rounding)
    score = score_from_velocity(v, states, c)
    torch.testing.assert_close(v, states / column + (1 - column) / column * score, **rounding)

    there = to_trig_flow(states, c, std)
    sine, cosine = (1 - t), t * std
    root = torch.hypot(sine, cosine)[:, None]
    torch.testing.assert_close(there.angle, torch.atan2(sine, cosine), **rounding)
    torch.testing.assert_close(there.x, std * states / root, **rounding)
    signal, noise = there.angle.cos() / std, there.angle.sin()
    torch.testing.assert_close(signal / (signal + noise), t, **rounding)
    torch.testing.assert_close(there.x / std / (signal + noise)[:, None], states, **rounding)
    answer = convert(v, states, c, Velocity(), TrigFlowPrediction(std))
    cos, sin = there.angle.cos()[:, None], there.angle.sin()[:, None]
    torch.testing.assert_close(std * answer, (cos * there.x - data) / sin, **rounding)
    back = convert(answer, states, c, TrigFlowPrediction(std), Velocity())
    torch.testing.assert_close(back, v, **rounding)
    torch.testing.assert_close(cos * there.x - sin * std * answer, data, **rounding)

    trig = mixture_on(Trig())
    again = FromTrigFlow(ToTrigFlow(trig))
    torch.testing.assert_close(again(states, t), trig(states, t), **rounding)


def test_adapters_pass_the_condition_and_image_shapes_on():
    x = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.3, 0.6])
    cond = {"label": torch.tensor([1, 2])}

    def model(x, time, cond):
        assert cond["label"].tolist() == [1, 2]
        return x

    for adapter in (FromDiffusersFlow(model), FromTrigFlow(model), FromEDM(model)):
        assert adapter(x, t, cond).shape == x.shape
    for adapter in (ToDiffusersFlow(model), ToTrigFlow(model), ToEDM(model)):
        assert adapter(x, t, cond).shape == x.shape


def test_guidance_conventions_agree(generator):
    c, u = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    for w in (0.0, 0.5, 4.0):
        scale = guidance_scale_from_w(w)
        torch.testing.assert_close((1 + w) * c - w * u, u + scale * (c - u))
        assert w_from_guidance_scale(scale) == pytest.approx(w)
    assert guidance_scale_from_w(0.0) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda f: FromDiffusersFlow(f, 0.0),
        lambda f: ToDiffusersFlow(f, math.inf),
        lambda f: FromEDM(f, sigma_min=0.0),
        lambda f: FromEDM(f, sigma_min=2.0, sigma_max=1.0),
    ],
)
def test_bad_arguments_raise(make):
    with pytest.raises(InputError):
        make(lambda x, t, cond=None: x)
