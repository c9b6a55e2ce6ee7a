"""The curve through estimates: exact where the error is, clean where they are noisy."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import ErrorCurve, Linear, Tabulated, Trig, kinetic_energy, kinetic_optimal
from flowgen.paths.error_curve import ratios, spread
from kinetic_data import gaussian_error, seeded, two_point_error


def curve(exact, variance=1.0, num_nodes=31, noise=0.0):
    snr = ratios(variance, num_nodes)
    rough = exact(snr) * (1 + noise * torch.randn(num_nodes, generator=seeded(0)).double())
    return ErrorCurve(snr, rough.clamp(min=0), torch.zeros(num_nodes), variance=variance)


@pytest.mark.parametrize(
    ("exact", "variance"),
    [
        (two_point_error(1), 1.0),
        (two_point_error(16), 1.0),
        (two_point_error(1, size=2.0), 4.0),
        (gaussian_error(1.8, 0.2), 1.0),
    ],
)
def test_few_ratios_are_enough(exact, variance):
    found = curve(exact, variance)
    snr = torch.linspace(0, 30, 500, dtype=torch.float64)
    torch.testing.assert_close(found(snr), exact(snr), rtol=0, atol=2e-3 * variance)
    ours, theirs = (kinetic_energy(Linear(), mmse, rho=variance) for mmse in (found, exact))
    assert ours == pytest.approx(theirs, abs=1e-4)
    best = [
        kinetic_optimal(mmse, rho=variance, floor=0.0, num_nodes=1001) for mmse in (found, exact)
    ]
    assert best[0].energy == pytest.approx(best[1].energy, abs=2e-4)


def test_a_gaussian_is_met_exactly_between_and_beyond_the_ratios():
    found = curve(gaussian_error(0.7), 0.7, num_nodes=3)
    snr = torch.cat([torch.linspace(0, 5, 50), torch.tensor([1e3, 1e8])]).double()
    torch.testing.assert_close(found(snr), gaussian_error(0.7)(snr), rtol=1e-9, atol=1e-20)
    assert isinstance(found.schedule(), Trig)


def test_estimates_are_cleaned():
    found = curve(two_point_error(4), num_nodes=63, noise=0.1)
    snr = torch.linspace(0, 20, 400, dtype=torch.float64)
    error = found(snr)
    assert (error.diff() <= 1e-3).all()
    assert (error <= found.linear(snr) + 1e-12).all()
    assert float(found(torch.zeros(1))) == 1.0
    assert (found.mmse.diff() > 0).any()  # what was given is kept
    assert kinetic_energy(found.schedule(), two_point_error(4)) < 1.3041 + 0.01


def test_no_error_above_that_of_a_gaussian_is_believed():
    found = curve(gaussian_error(1.0), noise=0.2)
    assert (found.mmse > found.linear(found.snr)).any()
    snr = torch.linspace(0, 20, 400, dtype=torch.float64)
    assert (found(snr) <= found.linear(snr) * (1 + 1e-12)).all()


def test_separation_goes_from_nothing_to_all():
    found = curve(two_point_error(4))
    known = found.separation(torch.tensor([0.0, 0.5, 1.0, 50.0], dtype=torch.float64))
    assert known[0] == 0
    assert (known.diff() > 0).all()
    assert float(known[-1]) == pytest.approx(1.0)


def test_the_mean_counts_for_the_path():
    snr = ratios(1.0, 31)
    centred, moved = (
        ErrorCurve(
            snr, two_point_error(4)(snr), torch.zeros(31), variance=1.0, mean_square=square
        ).schedule()
        for square in (0.0, 8.0)
    )
    assert isinstance(moved, Tabulated)
    assert isinstance(centred, Tabulated)
    assert float(moved.scale) == pytest.approx(3.0)
    t = torch.linspace(0.05, 0.95, 20, dtype=torch.float64)
    # A large mean wants to move at one speed.
    assert (moved(t).alpha - t).abs().max() < 0.3 * (centred(t).alpha - t).abs().max()


def test_spread_of_any_shape():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0], [2.0, 8.0]])
    flat, variance, mean_square = spread(x.reshape(3, 1, 2))
    torch.testing.assert_close(flat, (x - x.mean(dim=0)).double())
    assert variance == pytest.approx((2 + 6) / 6)
    assert mean_square == pytest.approx((4 + 36) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variance": 0.0}, "variance"),
        ({"variance": math.nan}, "variance"),
        ({"mean_square": -1.0}, "mean_square"),
        ({"snr": torch.tensor([1.0, 1.0])}, "strictly rising"),
        ({"snr": torch.tensor([0.0, 1.0])}, "above 0"),
        ({"mmse": torch.tensor([0.5, -0.1])}, "mmse must be"),
        ({"mmse": torch.tensor([0.5, math.nan])}, "mmse must be"),
    ],
)
def test_bad_input(change, message):
    given = {
        "snr": torch.tensor([1.0, 2.0]),
        "mmse": torch.tensor([0.5, 0.1]),
        "stderr": torch.zeros(2),
        "variance": 1.0,
    }
    with pytest.raises(InputError, match=message):
        ErrorCurve(**(given | change))


def test_lengths_must_agree():
    with pytest.raises(Exception, match=r"one length|Type-check error"):
        ErrorCurve(torch.ones(1), torch.ones(2), torch.ones(1), variance=1.0)
