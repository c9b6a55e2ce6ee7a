import math
from itertools import product

import pytest
import torch

from flowgen.core import Coefficients, InputError, Pair, expand
from flowgen.paths import (
    EDM,
    VP,
    AffinePath,
    Data,
    DiffusersFlow,
    EDMPrediction,
    Linear,
    LinearVP,
    Noise,
    Polynomial,
    SalimansV,
    Trig,
    Velocity,
    convert,
    score_from_velocity,
    velocity_domain,
)

PREDICTIONS = [
    Velocity(),
    Data(),
    Noise(),
    SalimansV(),
    EDMPrediction(0.5),
    EDMPrediction(1.7),
    DiffusersFlow(),
]
PAIRS = list(product(PREDICTIONS, PREDICTIONS))


def target(prediction, coefficients, x_1, x_0):
    a, b = prediction(coefficients)
    return expand(a, x_1) * x_1 + expand(b, x_0) * x_0


@pytest.mark.parametrize(("src", "dst"), PAIRS, ids=str)
def test_every_pair_on_the_exact_posterior_of_a_mixture(src, dst, mixture_on, states, times):
    for schedule in (Linear(), Trig(), VP(), EDM(0.01, 20.0)):
        data, noise = mixture_on(schedule).posterior_means(states, times)
        c = schedule(times)
        y, expected = target(src, c, data, noise), target(dst, c, data, noise)
        # Between t = 0.01 and 0.99 the worst factor is about 1e2 (VP: 1e4).
        torch.testing.assert_close(convert(y, states, c, src, dst), expected, rtol=1e-9, atol=1e-9)


def test_velocity_of_the_oracle_gives_its_posterior_means(schedule, mixture_on, states, times):
    oracle, c = mixture_on(schedule), schedule(times)
    v = oracle(states, times)
    data, noise = oracle.posterior_means(states, times)
    for dst, expected in ((Data(), data), (Noise(), noise)):
        found = convert(v, states, c, Velocity(), dst)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_the_spec_formulas_on_the_linear_path(states, times):
    """D = x + (1 - t) v and e = x - t v, without the general formula."""
    v, c = states.flip(0).sin(), Linear()(times)
    t = times[:, None]
    torch.testing.assert_close(convert(v, states, c, Velocity(), Data()), states + (1 - t) * v)
    torch.testing.assert_close(convert(v, states, c, Velocity(), Noise()), states - t * v)
    torch.testing.assert_close(convert(v, states, c, Velocity(), DiffusersFlow()), -v)


def test_salimans_v_on_trig_is_a_multiple_of_the_velocity(states, times):
    v, c = states.flip(0).sin(), Trig()(times)
    torch.testing.assert_close(
        convert(v, states, c, Velocity(), SalimansV()), -2 / math.pi * v, rtol=1e-10, atol=1e-10
    )


def test_equal_predictions_change_nothing_even_where_singular(states):
    ends = Linear()(torch.tensor([0.0, 1.0], dtype=torch.float64))
    y = states[:2]
    for src in PREDICTIONS:
        assert convert(y, y, ends, src, src) is y
    assert convert(y, y, ends, EDMPrediction(0.5), EDMPrediction(0.5)) is y


def test_score_is_the_gradient_of_the_log_density(schedule, mixture_on, states, times):
    oracle = mixture_on(schedule)

    def log_p(x, t):
        return oracle.log_density(x[None], t[None])[0]

    expected = torch.func.vmap(torch.func.grad(log_p))(states, times)
    score = score_from_velocity(oracle(states, times), states, schedule(times))
    scale = 1 / schedule(times).sigma[:, None]
    torch.testing.assert_close(score / scale, expected / scale, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("data_std", [0.5, 1.7])
def test_edm_target_has_unit_variance_at_all_times(schedule, data_std, times):
    """a^2 data_std^2 + b^2 = 1 exactly, and in samples."""
    prediction = EDMPrediction(data_std)
    a, b = prediction(schedule(times))
    torch.testing.assert_close((a * data_std).square() + b.square(), torch.ones_like(times))


def test_edm_target_is_karras_own_on_unscaled_states():
    """F = (x_1 - c_skip x) / c_out with the paper's factors, and the input scale's companion."""
    level, std = torch.tensor([0.002, 0.4, 3.0, 80.0], dtype=torch.float64), 0.5
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    a, b = EDMPrediction(std)(Coefficients(one, level, zero, -one))
    x_1, x_0 = torch.tensor([0.3, -1.0, 0.8, 0.1]), torch.tensor([1.0, 0.2, -2.0, 0.5])
    c_skip = std**2 / (level**2 + std**2)
    c_out = level * std / (level**2 + std**2).sqrt()
    expected = (x_1 - c_skip * (x_1 + level * x_0)) / c_out
    torch.testing.assert_close(a * x_1 + b * x_0, expected)


def test_edm_velocity_form_is_the_same_target(schedule, times):
    std, c = 0.7, schedule(times)
    power = (c.alpha * std).square() + c.sigma.square()
    c_skip = (c.alpha * c.d_alpha * std**2 + c.sigma * c.d_sigma) / power
    c_out = std * c.wronskian / power.sqrt()
    a, b = EDMPrediction(std)(c)
    torch.testing.assert_close(c_skip * c.alpha + c_out * a, c.d_alpha, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(c_skip * c.sigma + c_out * b, c.d_sigma, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("prediction", "schedule", "expected"),
    [
        (Velocity(), Linear(), (0, 1)),
        (Data(), Linear(), (0, 1 - 1e-3)),
        (Data(), Linear(0.07), (0, 1)),
        (Data(), LinearVP(), (0, 1 - 1e-3)),
        (Data(), EDM(), (0, 1)),
        (Noise(), Linear(), (1e-3, 1)),
        (Noise(), VP(), (0, 1 - 1e-5)),
        (Noise(), Polynomial(0.6), (1e-3, 1)),
        (SalimansV(), Linear(), (0, 1)),
        (SalimansV(), VP(), (0, 1 - 1e-5)),
        (EDMPrediction(0.5), Trig(), (0, 1)),
        (EDMPrediction(0.5), Polynomial(0.6), (1e-5, 1)),
        (DiffusersFlow(), LinearVP(), (0, 1 - 1e-5)),
    ],
    ids=str,
)
def test_velocity_domain_keeps_away_from_singular_ends_only(prediction, schedule, expected):
    assert velocity_domain(prediction, AffinePath(schedule), 1e-3) == expected


def test_conversion_to_velocity_is_finite_on_the_velocity_domain(schedule):
    path = AffinePath(schedule)
    for prediction in PREDICTIONS:
        for dtype in (torch.float32, torch.float64):
            low, high = velocity_domain(prediction, path, 1e-3)
            t = torch.linspace(low, high, 33, dtype=dtype).clamp(low, high)
            y = torch.ones(33, 2, dtype=dtype)
            v = convert(y, 0.5 * y, path.coefficients(t), prediction, Velocity())
            assert v.isfinite().all()


def test_training_target_and_conversion_agree_in_float32(schedule, generator):
    """Samples of a path: the target of each prediction converts to the pair's velocity."""
    path = AffinePath(schedule)
    x_0, x_1 = torch.randn(2, 64, 3, 2, 2, generator=generator)
    t = torch.linspace(0.1, 0.9, 64)
    point, c = path.sample(Pair(x_0, x_1), t), path.coefficients(t)
    for prediction in PREDICTIONS:
        y = target(prediction, c, x_1, x_0)
        v = convert(y, point.x_t, c, prediction, Velocity())
        # A determinant down to 1e-3 (VP at t = 0.1, noise) costs three of seven digits.
        torch.testing.assert_close(v, point.v_t, rtol=2e-3, atol=2e-3)


def test_bad_input_raises(times):
    c = Linear()(times)
    with pytest.raises(InputError, match="one shape"):
        convert(torch.zeros(50, 2), torch.zeros(50, 3), c, Data(), Noise())
    with pytest.raises(ValueError, match=r"t must have shape \(7,\)"):
        convert(torch.zeros(7, 2), torch.zeros(7, 2), c, Data(), Noise())
    with pytest.raises(InputError, match="data_std"):
        EDMPrediction(0.0)
    for t_eps in (0.0, 0.5, math.nan):
        with pytest.raises(InputError, match="t_eps"):
            velocity_domain(Data(), AffinePath(Linear()), t_eps)
