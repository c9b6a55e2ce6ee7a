"""Errors read off a velocity field: exact fields give exact errors, on every path."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import (
    EDM,
    VP,
    AffinePath,
    Linear,
    Polynomial,
    Tabulated,
    Trig,
    error_of_data,
    error_of_model,
    kinetic_energy,
    kinetic_optimal,
)
from kinetic_data import gaussian_error, seeded, two_point_error
from oracles import GaussianOracle, MixtureOracle

RATIOS = torch.tensor([0.2, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
SCHEDULES = [Linear(), Trig(), VP(), Polynomial(2.0), EDM(), kinetic_optimal(two_point_error(4))]


def two_points(d, schedule):
    """+-(1, ..., 1) as a mixture of components without width, and as many samples of both."""
    means = torch.stack([torch.ones(d), -torch.ones(d)])
    field = MixtureOracle(torch.ones(2), means, torch.zeros(2), schedule=schedule)
    return field, means.double().repeat(2, 1)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_two_points_on_every_path(schedule):
    field, x_1 = two_points(4, schedule)
    found = error_of_model(
        field, AffinePath(schedule), x_1, snr=RATIOS, num_samples=8000, generator=seeded(1)
    )
    torch.testing.assert_close(found.snr, RATIOS, rtol=1e-6, atol=0)
    exact = two_point_error(4)(RATIOS)
    # At a ratio of 2 it is made of states so rare that none may be among the 8000.
    assert ((found.mmse - exact).abs() < 4 * found.stderr + 2e-4).all()
    assert (found.stderr < 0.02).all()


@pytest.mark.parametrize(
    ("d", "best", "straight"),
    [(1, 0.45912, 0.98240), (4, 1.28589, 1.49120), (16, 1.64549, 1.74560)],
)
def test_energies_of_two_points(d, best, straight):
    field, x_1 = two_points(d, None)
    found = error_of_model(field, AffinePath(Linear()), x_1, num_samples=8000, generator=seeded(0))
    path = found.schedule(floor=0.0, num_nodes=1001)
    assert isinstance(path, Tabulated)
    # Where gamma is near 0 its noise does not average out in sqrt(gamma): most in one dimension.
    assert path.energy == pytest.approx(best, abs=0.05 if d == 1 else 0.015)
    assert kinetic_energy(Linear(), found) == pytest.approx(straight, abs=0.02)


@pytest.mark.parametrize("shape", [(3,), (1, 3, 1)])
def test_gaussians_of_any_mean_and_shape(shape):
    variances, mean = (1.8, 0.6, 0.2), torch.tensor([3.0, -1.0, 0.5])
    field = GaussianOracle(mean, torch.tensor(variances).diag(), schedule=Trig(), shape=shape)
    x_1 = field.sample(6000, generator=seeded(2)).x_1
    found = error_of_model(
        field, AffinePath(Trig()), x_1, snr=RATIOS, num_samples=6000, generator=seeded(1)
    )
    exact = gaussian_error(*variances)(RATIOS)
    assert ((found.mmse - exact).abs() < 4 * found.stderr).all()
    assert found.variance == pytest.approx(2.6 / 3, rel=0.04)
    assert found.mean_square == pytest.approx(10.25 / 3, rel=0.02)


def test_many_dimensions_are_told_where_points_alone_tell_nothing():
    """N(0, I) in 64 dimensions: the field knows the error, 300 points do not."""
    field = GaussianOracle(torch.zeros(64), torch.eye(64))
    x_1 = field.sample(300, generator=seeded(0)).x_1
    found = error_of_model(
        field, AffinePath(Linear()), x_1, snr=RATIOS, num_samples=600, generator=seeded(1)
    )
    exact = gaussian_error(1.0)(RATIOS)
    torch.testing.assert_close(found.mmse, exact, rtol=0.05, atol=0)
    assert (error_of_data(x_1, RATIOS, num_noise=50).curve.mmse[1:] < 0.5 * exact[1:]).all()


def test_what_a_field_has_not_learned_adds_to_the_error():
    schedule = Linear()
    exact, x_1 = two_points(4, schedule)

    def worse(x, t, cond=None):
        return exact(x, t, cond) + 0.3

    pair = [
        error_of_model(
            field, AffinePath(schedule), x_1, snr=RATIOS, num_samples=500, generator=seeded(4)
        )
        for field in (exact, worse)
    ]
    sigma = 1 / (1 + RATIOS)
    more = pair[1].mmse - pair[0].mmse
    # The cross term averages to 0 only up to the noise of 500 samples.
    torch.testing.assert_close(more, 0.09 * sigma**2, rtol=0, atol=0.03)


def test_conditions_reach_the_field_with_their_rows():
    """Told the component, nothing is left to guess of a mixture without width."""
    field, x_1 = two_points(2, None)
    label = torch.tensor([0, 1, 0, 1])
    settings = {"snr": RATIOS, "num_samples": 50, "generator": seeded(1), "chunk": 7}
    found = error_of_model(field, AffinePath(Linear()), x_1, {"label": label}, **settings)
    torch.testing.assert_close(found.mmse, torch.zeros(5).double(), rtol=0, atol=1e-12)


def test_ratios_that_the_field_does_not_know_are_left_out():
    field, x_1 = two_points(2, None)
    field.domain = (0.1, 0.9)
    times = []

    def seen(x, t, cond=None):
        times.append(t)
        return field(x, t, cond)

    seen.domain = field.domain
    snr = torch.tensor([0.01, 0.2, 1.0, 8.0, 50.0], dtype=torch.float64)
    found = error_of_model(seen, AffinePath(Linear()), x_1.float(), snr=snr, num_samples=8)
    torch.testing.assert_close(found.snr, snr[1:4], rtol=1e-5, atol=0)
    assert all(t.dtype == torch.float32 for t in times)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_samples": 3}, "num_samples"),
        ({"chunk": 0}, "chunk"),
        ({"num_nodes": 0}, "num_nodes"),
        ({"x_1": torch.ones(4, 2)}, "constant"),
        ({"snr": torch.tensor([1e-9])}, "share no time"),
    ],
)
def test_bad_input(change, message):
    field, x_1 = two_points(2, None)
    field.domain = (0.1, 0.9)
    with pytest.raises(InputError, match=message):
        error_of_model(field, AffinePath(Linear()), **({"x_1": x_1} | change))
