"""Errors estimated from points: the oracles of two points and of Gaussians, bounds, memory."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import (
    DataError,
    Linear,
    LinearVP,
    Tabulated,
    Trig,
    error_of_data,
    kinetic_energy,
    kinetic_optimal,
)
from kinetic_data import gaussian_error, seeded, two_point_error

RATIOS = torch.tensor([0.2, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)


def two_points(d, copies=2, size=1.0):
    return size * torch.tensor([1.0, -1.0]).repeat(copies)[:, None].expand(-1, d)


def normal(n, *variances, mean=0.0, seed=1):
    noise = torch.randn(n, len(variances), generator=seeded(seed), dtype=torch.float64)
    return mean + noise * torch.tensor(variances, dtype=torch.float64).sqrt()


@pytest.mark.parametrize("d", [1, 4, 16])
def test_two_points_to_the_standard_error(d):
    found = error_of_data(two_points(d), RATIOS, num_noise=20_000, generator=seeded(3)).curve
    exact = two_point_error(d)(RATIOS)
    # What is estimated of 5 correlated values: 4 standard errors, and what float64 leaves.
    assert ((found.mmse - exact).abs() < 4 * found.stderr + 1e-12).all()
    assert (found.stderr < 0.01).all()
    torch.testing.assert_close(found.separation(RATIOS), 1 - exact, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("d", "best", "straight", "trig"),
    [
        (1, 0.45912, 0.98240, 0.86896),
        (4, 1.28589, 1.49120, 1.66818),
        (16, 1.64549, 1.74560, 2.06779),
    ],
)
def test_energies_of_two_points(d, best, straight, trig):
    found = error_of_data(two_points(d, copies=20), num_noise=20_000, generator=seeded(0))
    path = found.schedule(floor=0.0, num_nodes=1001)
    assert isinstance(path, Tabulated)
    # sqrt(gamma) turns noise near 0 into less energy in one dimension, where gamma begins as s^6.
    assert path.energy == pytest.approx(best, abs=0.02 if d == 1 else 2e-3)
    assert kinetic_energy(Linear(), found.curve) == pytest.approx(straight, abs=2e-3)
    assert kinetic_energy(Trig(), found.curve) == pytest.approx(trig, abs=2e-3)
    assert found.trustworthy


def test_unnormalised_data():
    """+-2 in one dimension, rho = 4."""
    found = error_of_data(two_points(1, size=2.0), num_noise=20_000, generator=seeded(0))
    assert found.curve.rho == pytest.approx(4.0)
    path = found.schedule(floor=0.0, num_nodes=1001)
    assert isinstance(path, Tabulated)
    assert float(path.scale) == pytest.approx(2.0)
    assert path.energy == pytest.approx(1.91824, abs=0.04)
    assert kinetic_energy(Linear(), found.curve, rho=4.0) == pytest.approx(2.96480, abs=5e-3)


def test_a_shift_changes_no_error_but_the_energy():
    centred = error_of_data(two_points(4), RATIOS, num_noise=500, generator=seeded(0)).curve
    shifted = error_of_data(two_points(4) + 3, RATIOS, num_noise=500, generator=seeded(0)).curve
    torch.testing.assert_close(shifted.mmse, centred.mmse, rtol=1e-6, atol=1e-9)
    assert (shifted.variance, shifted.mean_square) == pytest.approx((1.0, 9.0))
    # The mean moves as alpha does: 9 int d_alpha^2 more, which is least for the linear path.
    more = kinetic_energy(Linear(), shifted, rho=shifted.rho)
    assert more - kinetic_energy(Linear(), centred) == pytest.approx(9.0, abs=1e-6)


def test_a_shifted_gaussian_moves_by_linear_vp():
    """N(m, I) is reached by the map x + m: alpha = t, and the variance never changes."""

    def mmse(snr):
        return 1 / (1 + snr.square())

    path = kinetic_optimal(mmse, rho=1 + 0.7, floor=0.0, num_nodes=2001)
    assert isinstance(path, Tabulated)
    assert path.energy == pytest.approx(0.7, abs=1e-4)
    t = torch.linspace(0, 0.99, 12, dtype=torch.float64)
    ours, exact = path(t), LinearVP()(t)
    torch.testing.assert_close(ours.alpha, exact.alpha, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.sigma, exact.sigma, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variances", [(1.8, 0.2), (2.2, 0.7, 0.1)])
def test_gaussians_lie_between_the_bounds(variances):
    found = error_of_data(normal(2000, *variances), RATIOS, num_noise=2000, generator=seeded(0))
    exact = gaussian_error(*variances)(RATIOS)
    # The variance of 2000 points is 5 % off.
    slack = 0.06 * exact
    assert (found.curve.mmse < exact + 4 * found.curve.stderr + slack).all()
    assert (found.upper.mmse > exact - 4 * found.upper.stderr - slack).all()
    assert (found.curve.mmse < found.upper.mmse).all()
    torch.testing.assert_close(found.curve.mmse, exact, rtol=0.15, atol=0)


def test_an_isotropic_gaussian_gets_trig_where_its_points_suffice():
    found = error_of_data(normal(6000, 1.0, 1.0), num_noise=600, generator=seeded(0))
    assert found.trustworthy
    assert isinstance(found.schedule(), Trig)
    # By the points alone a table would win: from close by each is alone.
    assert isinstance(found.curve.schedule(), Tabulated)


def test_few_points_in_many_dimensions_are_not_trusted():
    """In 256 dimensions 500 points of N(0, I) look perfectly separated, and are not."""
    found = error_of_data(normal(500, *[1.0] * 256), RATIOS, num_noise=200, generator=seeded(0))
    truth = gaussian_error(1.0)(RATIOS)
    assert (found.curve.separation(RATIOS)[1:] > 0.99).all()
    assert (found.upper(RATIOS) >= truth * 0.98).all()
    assert not found.trustworthy
    assert found.doubt > 0.5
    assert found.memory_bound == pytest.approx(3 * 500 / 16)


def test_two_draws_of_noise_agree_to_their_errors():
    found = [
        error_of_data(two_points(4), RATIOS, num_noise=4000, generator=seeded(s)).curve
        for s in (1, 2)
    ]
    gap = (found[0].mmse - found[1].mmse).abs()
    assert (gap < 4 * torch.hypot(found[0].stderr, found[1].stderr) + 1e-12).all()
    assert (gap[:4] > 0).all()


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_change_nothing_but_rounding(chunk):
    x = normal(40, 1.8, 0.2, mean=3.0)

    def errors(size):
        found = error_of_data(x, RATIOS, num_noise=30, chunk=size, generator=seeded(5))
        return torch.stack([found.curve.mmse, found.upper.mmse])

    torch.testing.assert_close(errors(chunk), errors(2048), rtol=1e-9, atol=1e-12)


def test_against_the_formula_written_out():
    x = normal(12, 1.8, 0.2, mean=1.0)
    s, half = 1.3, 4
    at = torch.tensor([s], dtype=torch.float64)
    found = error_of_data(x, at, num_noise=2 * half, generator=seeded(5))
    generator = seeded(5)
    own = torch.randperm(12, generator=generator)[:half]
    noise = torch.randn(half, 2, generator=generator, dtype=torch.float64)
    inside, outside = [], []
    for i, z in zip([*own, *own], [*noise, *-noise], strict=True):
        state = s * x[i] + z
        weight = (-0.5 * (state - s * x).square().sum(dim=1)).exp()
        mean = (weight[:, None] * x).sum(dim=0) / weight.sum()
        scatter = (x[i] - mean).square().sum() / 2
        inside.append((weight * (x - mean).square().sum(dim=1)).sum() / weight.sum() / 2)
        weight[i] = 0
        guess = (weight[:, None] * x).sum(dim=0) / weight.sum()
        outside.append((guess - x[i]).square().sum() / 2 - scatter + inside[-1])
    assert float(found.curve.mmse) == pytest.approx(float(torch.stack(inside).mean()), rel=1e-9)
    assert float(found.upper.mmse) == pytest.approx(float(torch.stack(outside).mean()), rel=1e-9)
    pairs = (torch.stack(inside[:half]) + torch.stack(inside[half:])) / 2
    assert float(found.curve.stderr) == pytest.approx(float(pairs.std()) / math.sqrt(half))


def test_images_are_vectors():
    x = normal(20, *[1.0] * 4)
    flat, image = (
        error_of_data(each, RATIOS, num_noise=20, generator=seeded(0))
        for each in (x, x.reshape(20, 1, 2, 2))
    )
    assert torch.equal(flat.curve.mmse, image.curve.mmse)
    assert image.dimensions == 4
    assert isinstance(image, DataError)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: error_of_data(torch.zeros(5, 2)), "constant"),
        (lambda: error_of_data(torch.full((5, 2), math.nan)), "finite"),
        (lambda: error_of_data(torch.randn(1, 2)), "at least 2 samples"),
        (lambda: error_of_data(torch.randn(5, 2), num_noise=3), "num_noise"),
        (lambda: error_of_data(torch.randn(5, 2), num_nodes=0), "num_nodes"),
        (lambda: error_of_data(torch.randn(5, 2), chunk=0), "chunk"),
        (lambda: error_of_data(torch.randn(5, 2), torch.tensor([1.0, 1.0])), "strictly rising"),
        (lambda: error_of_data(torch.randn(5, 2), torch.tensor([0.0])), "above 0"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
