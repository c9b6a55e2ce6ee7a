import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.metrics import discrepancy as module
from flowgen.metrics import energy_distance, median_distance, rbf_mmd


def brute(x, y, g):
    def mean(u, v, same):
        rows, columns = u.flatten(1), v.flatten(1)
        values = [
            g(float((a - b).norm()))
            for i, a in enumerate(rows)
            for j, b in enumerate(columns)
            if not (same and i == j)
        ]
        return sum(values) / len(values)

    return 2 * mean(x, y, False) - mean(x, x, True) - mean(y, y, True)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_agrees_with_a_sum_over_pairs(shape, generator, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)
    x = torch.randn(9, *shape, generator=generator, dtype=torch.float64) + 0.5
    y = 2 * torch.randn(6, *shape, generator=generator, dtype=torch.float64)
    found = rbf_mmd(x, y, 1.3)
    assert found == pytest.approx(brute(x, y, lambda r: -math.exp(-r * r / (2 * 1.3**2))), rel=1e-9)
    assert energy_distance(x, y) == pytest.approx(brute(x, y, lambda r: r), rel=1e-9)


def test_rbf_of_two_gaussians(generator):
    # E k over N(m, s^2) in d dims: (h^2 / (h^2 + s^2))^(d/2) exp(-|m|^2 / (2 (h^2 + s^2)))
    h, mean = 0.8, torch.tensor([0.6, -0.4], dtype=torch.float64)
    x = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    y = 0.5 * torch.randn(4000, 2, generator=generator, dtype=torch.float64) + mean

    def expected_kernel(variance, shift):
        total = h**2 + variance
        return h**2 / total * math.exp(-shift / (2 * total))

    shift = float(mean.square().sum())
    expected = expected_kernel(2, 0) + expected_kernel(0.5, 0) - 2 * expected_kernel(1.25, shift)
    # Standard deviation of the estimate over 12 draws: 0.007.
    assert rbf_mmd(x, y, h) == pytest.approx(expected, abs=0.028)


def test_energy_of_two_gaussians_on_a_line(generator):
    # E|X - Y| of N(m, s^2) differences: s sqrt(2/pi) exp(-m^2/2s^2) + m erf(m / (s sqrt 2))
    def folded(m, s):
        part = s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2))
        return part + m * math.erf(m / (s * math.sqrt(2)))

    x = torch.randn(5000, 1, generator=generator, dtype=torch.float64)
    y = 2 * torch.randn(5000, 1, generator=generator, dtype=torch.float64) + 1.5
    expected = 2 * folded(1.5, math.sqrt(5)) - folded(0, math.sqrt(2)) - folded(0, math.sqrt(8))
    # Standard deviation of the estimate over 12 draws: 0.04, of a value of 0.96.
    assert energy_distance(x, y) == pytest.approx(expected, abs=0.16)


def test_unbiased_on_one_distribution(generator):
    values = []
    for _ in range(200):
        x, y = torch.randn(2, 12, 2, generator=generator)
        values.append((rbf_mmd(x, y, 1.0), energy_distance(x, y)))
    means, spreads = torch.tensor(values).mean(0), torch.tensor(values).std(0) / math.sqrt(200)
    assert bool((means.abs() < 4 * spreads).all())


def test_far_from_the_origin_nothing_is_lost(generator):
    x, y = torch.randn(2, 50, 2, generator=generator, dtype=torch.float64)
    far = rbf_mmd(x + 1e6, y + 1e6, 1.0)
    assert far == pytest.approx(rbf_mmd(x, y, 1.0), abs=1e-6)


def test_median_of_three_points():
    assert median_distance(torch.tensor([[0.0], [1.0], [5.0]])) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rbf_mmd(x, x, 0.0), "bandwidth"),
        (lambda x: rbf_mmd(x[:1], x, 1.0), "n >= 2"),
        (lambda x: energy_distance(x, torch.zeros(4, 3)), "one shape"),
        (lambda x: energy_distance(x * float("nan"), x), "finite"),
        (lambda x: median_distance(x * 0), "median distance is 0"),
    ],
)
def test_misfits_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(torch.randn(4, 2))
