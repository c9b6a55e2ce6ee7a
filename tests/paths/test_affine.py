import pytest
import torch

from flowgen.core import InputError, Pair
from flowgen.paths import EDM, AffinePath, Linear, LinearVP, Trig


def test_velocity_is_the_time_derivative_of_the_state(schedule, gaussian_on, times):
    pair = gaussian_on(schedule).sample(50, generator=torch.Generator().manual_seed(0))
    path = AffinePath(schedule)
    _, tangent = torch.func.jvp(
        lambda t: path.sample(pair, t).x_t, (times,), (torch.ones_like(times),)
    )
    torch.testing.assert_close(path.sample(pair, times).v_t, tangent, rtol=1e-9, atol=1e-9)


def test_ends_are_source_and_data(generator):
    pair = Pair(torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator))
    for schedule in (Linear(), Trig()):
        point = AffinePath(schedule).sample(pair, torch.tensor([0.0, 1.0]))
        assert torch.equal(point.x_t, torch.stack([pair.x_0[0], pair.x_1[1]]))


def test_images_are_vectors_reshaped(schedule, times, generator):
    x_0, x_1 = torch.randn(2, 50, 12, generator=generator, dtype=torch.float64)
    path = AffinePath(schedule)
    flat = path.sample(Pair(x_0, x_1), times)
    image = path.sample(Pair(x_0.reshape(50, 3, 2, 2), x_1.reshape(50, 3, 2, 2)), times)
    assert torch.equal(image.x_t.reshape(50, 12), flat.x_t)
    assert torch.equal(image.v_t.reshape(50, 12), flat.v_t)
    one = path.sample(Pair(x_0[:1], x_1[:1]), times[:1])
    assert torch.equal(one.x_t, flat.x_t[:1])


def test_the_law_of_the_state_is_the_oracles(gaussian_on, schedule):
    """Mean and covariance of 100 000 states, to 4 standard errors of a variance of about 3."""
    oracle, n = gaussian_on(schedule), 100_000
    pair = oracle.sample(n, generator=torch.Generator().manual_seed(3))
    t = torch.full((n,), 0.45, dtype=torch.float64)
    x_t = AffinePath(schedule).sample(pair, t).x_t
    torch.testing.assert_close(x_t.mean(dim=0), oracle.mean(t[:1])[0], rtol=0, atol=0.03)
    torch.testing.assert_close(x_t.T.cov(), oracle.cov(t[:1])[0], rtol=0, atol=0.06)


def test_half_precision_data_is_combined_in_float32(generator):
    x_0, x_1 = torch.randn(2, 4, 3, generator=generator).bfloat16()
    t = torch.full((4,), 0.9999)
    point = AffinePath(Linear()).sample(Pair(x_0, x_1), t)
    assert point.x_t.dtype == torch.bfloat16
    exact = 0.9999 * x_1.double() + 0.0001 * x_0.double()
    # One rounding to bfloat16 (relative 2^-8), not one per operation.
    torch.testing.assert_close(point.x_t.double(), exact, rtol=2**-8, atol=1e-6)


def test_start_is_scaled_by_the_noise_left_at_the_start():
    assert AffinePath(Linear()).initial_scale == 1
    assert AffinePath(EDM()).initial_scale == pytest.approx(80 / 81)


def test_bad_times_raise():
    pair = Pair(torch.zeros(3, 2), torch.ones(3, 2))
    path = AffinePath(Linear())
    with pytest.raises(ValueError, match=r"t must have shape \(3,\)"):
        path.sample(pair, torch.zeros(2))
    with pytest.raises(InputError, match="float32 or float64"):
        path.sample(pair, torch.zeros(3, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"t must be <= 0\.99999"):
        AffinePath(LinearVP()).sample(pair, torch.ones(3))
