import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import trapezoid

from flowgen.core import InputError, Source
from flowgen.data import Checkerboard, Gaussian, Moons, Pinwheel, SCurve, SwissRoll

N = 100_000
ALL = [Moons(), SCurve(), Checkerboard(), Pinwheel(), SwissRoll(), Gaussian((2,), 1.5)]


def draw(distribution, n=N, seed=0):
    return distribution.sample(n, generator=torch.Generator().manual_seed(seed)).double().numpy()


def check_moments(x, mean, cov):
    """Compare with exact moments, within 4.5 standard errors estimated from the sample."""
    centred = x - mean
    assert np.all(np.abs(centred.mean(0)) < 4.5 * x.std(0) / math.sqrt(len(x)))
    products = centred[:, :, None] * centred[:, None, :]
    error = 4.5 * products.std(0) / math.sqrt(len(x))
    assert np.all(np.abs(products.mean(0) - cov) < error)


@pytest.mark.parametrize("distribution", ALL, ids=lambda d: type(d).__name__)
def test_samples_are_float32_decided_by_the_generator_and_leave_the_global_one_alone(distribution):
    assert isinstance(distribution, Source)
    state = torch.get_rng_state()
    first, again, other = (
        distribution.sample(7, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert first.dtype == torch.float32
    assert first.shape == (7, *distribution.shape)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert distribution.sample(1).shape == (1, 2)


def test_moons_moments():
    noise, scale = 0.3, 2.0
    mean = np.array([0.5, 0.25])
    x_x = 0.5 + 0.25
    y_y = (0.5 + 0.75 - 2 / math.pi) / 2 - mean[1] ** 2
    x_y = (0.5 - 2 / math.pi) / 2 - mean[0] * mean[1]
    cov = np.array([[x_x, x_y], [x_y, y_y]]) + noise**2 * np.eye(2)
    x = draw(Moons(noise=noise, scale=scale, shift_x=-1.0, shift_y=0.75))
    check_moments(x, scale * mean + [-1.0, 0.75], scale**2 * cov)


def test_moons_are_the_benchmark_s():
    from sklearn.datasets import make_moons

    reference = 2 * make_moons(20_000, noise=0.05, random_state=0)[0] - [1.0, 0.0]
    same_law(draw(Moons(), 20_000), reference)


def test_s_curve_moments():
    noise, scale = 0.2, 1.5
    x_y = -1 / (3 * math.pi)
    cov = np.array([[0.5, x_y], [x_y, 1.5 + 4 / (3 * math.pi)]]) + noise**2 * np.eye(2)
    check_moments(draw(SCurve(noise, scale)), np.zeros(2), scale**2 * cov)


def test_s_curve_is_the_benchmark_s():
    from sklearn.datasets import make_s_curve

    reference = 1.5 * make_s_curve(20_000, noise=0.05, random_state=0)[0][:, [0, 2]]
    same_law(draw(SCurve(), 20_000), reference)


def test_swiss_roll_moments():
    a = np.linspace(1.5 * math.pi, 4.5 * math.pi, 200_001)
    curve = np.stack([a * np.cos(a), a * np.sin(a)], axis=1)
    second = trapezoid(curve[:, :, None] * curve[:, None, :], a, axis=0) / (3 * math.pi)
    mean = np.array([2.0, 2 / (3 * math.pi)])
    cov = second - np.outer(mean, mean) + 0.25 * np.eye(2)
    check_moments(draw(SwissRoll(noise=0.5, scale=0.2)), 0.2 * mean, 0.04 * cov)


def test_swiss_roll_is_the_benchmark_s():
    from sklearn.datasets import make_swiss_roll

    reference = make_swiss_roll(20_000, noise=1.0, random_state=0)[0][:, [0, 2]] / 5
    same_law(draw(SwissRoll(), 20_000), reference)


def same_law(x, reference):
    """Kolmogorov-Smirnov along four directions: catches a swap, a sign, a shift or a scale."""
    for direction in ([1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.8, -0.6]):
        assert stats.ks_2samp(x @ direction, reference @ direction).pvalue > 1e-3


@pytest.mark.parametrize(("num_cells", "half_width"), [(4, 4.0), (6, 1.0)])
def test_checkerboard_fills_one_colour_uniformly(num_cells, half_width):
    x = draw(Checkerboard(num_cells, half_width), 50_000)
    assert np.abs(x).max() <= half_width
    cells = np.floor((x + half_width) / (2 * half_width / num_cells)).astype(int)
    cells = cells.clip(0, num_cells - 1)  # float32 may round a point onto the upper border
    counts = np.zeros((num_cells, num_cells), dtype=int)
    np.add.at(counts, (cells[:, 0], cells[:, 1]), 1)
    colour = np.add.outer(np.arange(num_cells), np.arange(num_cells)) % 2
    assert counts[colour == 1].sum() <= 5  # only points rounded onto a border
    assert stats.chisquare(counts[colour == 0]).pvalue > 1e-3
    inside = (x + half_width) / (2 * half_width / num_cells) % 1
    for axis in range(2):
        assert stats.kstest(inside[:, axis], "uniform").pvalue > 1e-3


def test_a_pinwheel_of_one_thin_blade_bends_clockwise():
    x = draw(Pinwheel(1, radial_std=1e-6, tangential_std=1e-6, rate=0.25, scale=2.0), 100)
    angle = 0.25 * math.e
    wanted = [2 * math.cos(angle), -2 * math.sin(angle)]
    np.testing.assert_allclose(x, np.tile(wanted, (100, 1)), atol=1e-4)


def test_pinwheel_blades_are_laws_of_r_and_q():
    # Without bending, blade 0 is the Gaussian (1 + 0.3 z, 0.1 z') times the scale.
    x = draw(Pinwheel(1, radial_std=0.3, tangential_std=0.1, rate=0.0, scale=3.0))
    check_moments(x, np.array([3.0, 0.0]), np.diag([0.81, 0.09]))


def test_pinwheel_has_five_fold_symmetry():
    x = draw(Pinwheel())
    # Five blades have no mean and no direction: the covariance is E[r^2 + q^2] / 2 both ways.
    check_moments(x, np.zeros(2), 4 * (1 + 0.3**2 + 0.1**2) / 2 * np.eye(2))
    # The first harmonic that is left is the fifth.
    z = (x[:, 0] + 1j * x[:, 1]) / np.abs(x[:, 0] + 1j * x[:, 1])
    size = [abs(np.mean(z**k)) for k in (1, 2, 3, 4, 5)]
    assert max(size[:4]) < 4.5 / math.sqrt(N)
    assert size[4] > 0.1


def test_pinwheel_is_the_one_of_its_formula():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20_000, 2)) * [0.3, 0.1] + [1.0, 0.0]
    angle = 2 * math.pi * rng.integers(5, size=20_000) / 5 + 0.25 * np.exp(points[:, 0])
    turned = (points[:, 0] + 1j * points[:, 1]) * np.exp(-1j * angle)
    same_law(draw(Pinwheel(), 20_000, seed=1), 2 * np.stack([turned.real, turned.imag], axis=1))


def test_gaussian_has_the_shape_and_scale_it_was_given():
    x = Gaussian([3, 2, 4], std=0.5).sample(20_000, generator=torch.Generator().manual_seed(0))
    assert x.shape == (20_000, 3, 2, 4)
    assert stats.kstest(x[:, 1, 1, 2].numpy(), stats.norm(scale=0.5).cdf).pvalue > 1e-3
    assert abs(float(torch.corrcoef(x.flatten(1).T)[0, 1])) < 0.04  # 5 standard errors


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Moons(noise=-0.1), "noise"),
        (lambda: Moons(scale=0.0), "scale"),
        (lambda: Moons(shift_x=float("nan")), "shifts"),
        (lambda: SCurve(noise=float("inf")), "noise"),
        (lambda: SCurve(scale=-1.0), "scale"),
        (lambda: Checkerboard(num_cells=3), "num_cells"),
        (lambda: Checkerboard(half_width=0.0), "half_width"),
        (lambda: Pinwheel(num_blades=0), "num_blades"),
        (lambda: Pinwheel(tangential_std=0.0), "tangential_std"),
        (lambda: Pinwheel(rate=float("nan")), "rate"),
        (lambda: SwissRoll(noise=-1.0), "noise"),
        (lambda: SwissRoll(scale=0.0), "scale"),
        (lambda: Gaussian([]), "shape"),
        (lambda: Gaussian([3, 0]), "shape"),
        (lambda: Gaussian([2], std=0.0), "std"),
    ],
)
def test_bad_arguments_are_named(make, name):
    with pytest.raises(InputError, match=name):
        make()
