"""Kinetic-optimal paths against closed forms: two points, Gaussians, and free minimisation.

The tabulated numbers were computed by an independent quadrature and a free minimisation.
"""

import math

import numpy as np
import pytest
import torch

from flowgen.core import InputError
from flowgen.paths import (
    EDM,
    VP,
    Cosine,
    DiscreteDiffusion,
    Linear,
    LinearVP,
    Polynomial,
    Tabulated,
    Trig,
    conditional_energy,
    kinetic_energy,
    kinetic_optimal,
)
from flowgen.paths.hermite import interpolate, invert

NODES, WEIGHTS = (
    torch.as_tensor(a) for a in np.polynomial.hermite_e.hermegauss(181)
)  # E f(z), z ~ N(0, 1)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def two_points(d, size=1.0):
    """+-mu with ``|mu|^2 = d size^2``: the posterior mean is mu tanh(snr^2 |mu|^2 + snr |mu| z)."""

    def mmse(snr):
        s = snr.double()[:, None] * size
        tanh = torch.tanh(d * s.square() + math.sqrt(d) * s * NODES)
        return size**2 * (1 - (tanh.square() * WEIGHTS).sum(dim=1))

    return mmse


def gaussian(*variances):
    def mmse(snr):
        v = torch.tensor(variances, dtype=torch.float64)
        return (v / (1 + snr.double()[:, None].square() * v)).mean(dim=1)

    return mmse


def point_masses(snr):
    """The limit of perfectly separated data: nothing is left to guess."""
    return torch.where(snr > 0, torch.zeros_like(snr.double()), torch.ones_like(snr.double()))


@pytest.mark.parametrize(
    ("d", "angle", "best", "straight", "trig"),
    [
        (1, 0.69126, 0.45912, 0.98240, 0.86896),
        (4, 1.20568, 1.28589, 1.49120, 1.66818),
        (16, 1.39260, 1.64549, 1.74560, 2.06779),
    ],
)
def test_two_points(d, angle, best, straight, trig):
    mmse = two_points(d)
    path = kinetic_optimal(mmse, floor=0.0, num_nodes=2001)
    assert isinstance(path, Tabulated)
    assert float(path.psi[-1]) == pytest.approx(angle, abs=1e-4)
    assert path.energy == pytest.approx(best, abs=1e-4)
    assert kinetic_energy(Linear(), mmse) == pytest.approx(straight, abs=1e-4)
    assert kinetic_energy(Trig(), mmse) == pytest.approx(trig, abs=1e-4)
    if d == 1:
        # Squared distance of N(0, 1) and the two points.
        transport = 2 - 2 * math.sqrt(2 / math.pi)
        assert transport == pytest.approx(0.40423, abs=1e-5)
        assert transport < path.energy


@pytest.mark.parametrize(
    ("d", "t", "alpha", "sigma"),
    [
        (1, [0.5], [0.8848], [0.3199]),
        (4, [0.25, 0.5, 0.75], [0.4966, 0.6783, 0.8393], [0.7157, 0.4673, 0.2335]),
        (16, [0.5], [0.5886], [0.4921]),
    ],
)
def test_coefficients_of_two_points(d, t, alpha, sigma):
    c = kinetic_optimal(two_points(d), floor=0.0, num_nodes=2001)(torch.tensor(t).double())
    torch.testing.assert_close(c.alpha, torch.tensor(alpha).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(c.sigma, torch.tensor(sigma).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("d", "floor", "energy", "pairs", "start"),
    [
        (1, 0.03, 0.5025, 3.81, 4.0),
        (1, 0.1, 0.5558, 2.80, 2.4),
        (4, 0.1, 1.3041, 2.41, 3.0),
        (16, 0.1, 1.6541, 2.21, 3.1),
    ],
)
def test_the_floor_bounds_the_targets_at_little_energy(d, floor, energy, pairs, start):
    mmse = two_points(d)
    path = kinetic_optimal(mmse, floor=floor)
    assert kinetic_energy(path, mmse) == pytest.approx(energy, abs=2e-3)
    assert conditional_energy(path) == pytest.approx(pairs, abs=2e-2)
    first = float(path(torch.zeros(1, dtype=torch.float64)).d_alpha)
    assert first == pytest.approx(start, abs=6e-2)


def test_separated_data_give_the_linear_path():
    path = kinetic_optimal(point_masses)
    # At 0 itself gamma is 0 for all data: the first node alone, whose slope no step sees.
    t = torch.linspace(1e-3, 1, 11, dtype=torch.float64)
    ours, linear = path(t), Linear()(t)
    for name in ("alpha", "sigma", "d_alpha", "d_sigma"):
        torch.testing.assert_close(getattr(ours, name), getattr(linear, name), rtol=0, atol=1e-4)
    assert path.energy == pytest.approx(2.0, abs=1e-4)
    assert kinetic_energy(Trig(), point_masses) == pytest.approx(math.pi**2 / 4, abs=1e-4)


def test_without_a_table_it_is_linear():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    ours, linear = Tabulated()(t), Linear()(t)
    for name in ("alpha", "sigma", "d_alpha", "d_sigma"):
        torch.testing.assert_close(getattr(ours, name), getattr(linear, name), rtol=0, atol=1e-9)


def test_an_isotropic_gaussian_has_no_preference():
    assert isinstance(kinetic_optimal(gaussian(1.0)), Trig)
    assert kinetic_energy(Linear(), gaussian(1.0)) == pytest.approx(2 - math.pi / 2, abs=1e-4)
    assert kinetic_energy(Trig(), gaussian(1.0)) == pytest.approx(0.0, abs=1e-9)


def test_two_variances_reach_the_optimal_transport():
    mmse = gaussian(1.8, 0.2)
    path = kinetic_optimal(mmse, floor=0.0, num_nodes=2001)
    transport = (math.sqrt(1.8) - 1) ** 2 / 2 + (math.sqrt(0.2) - 1) ** 2 / 2
    assert float(path.psi[-1]) == pytest.approx(0.46365, abs=1e-4)
    assert path.energy == pytest.approx(transport, abs=1e-4)
    assert kinetic_energy(Linear(), mmse) == pytest.approx(0.59504, abs=1e-4)
    assert kinetic_energy(Trig(), mmse) == pytest.approx(0.26049, abs=1e-4)
    middle = path(torch.tensor([0.5], dtype=torch.float64))
    assert float(middle.alpha) == pytest.approx(0.72767, abs=1e-4)
    assert float(middle.sigma) == pytest.approx(0.64630, abs=1e-4)


def test_three_variances_stay_above_the_optimal_transport():
    variances = [v / 1.0 for v in (2.2, 0.7, 0.1)]
    path = kinetic_optimal(gaussian(*variances), floor=0.0, num_nodes=2001)
    transport = sum((math.sqrt(v) - 1) ** 2 for v in variances) / 3
    assert path.energy == pytest.approx(0.24596, abs=1e-4)
    assert transport == pytest.approx(0.24258, abs=1e-4)


def test_data_need_not_be_normalised():
    mmse = two_points(1, size=2.0)
    path = kinetic_optimal(mmse, rho=4.0, floor=0.0, num_nodes=2001)
    assert float(path.psi[-1]) == pytest.approx(0.69126, abs=1e-4)
    assert path.energy == pytest.approx(1.91824, abs=1e-4)
    # Squared distance of N(0, 1) and the points -2 and 2.
    assert 5 - 4 * math.sqrt(2 / math.pi) == pytest.approx(1.80846, abs=1e-5)
    assert 5 - 4 * math.sqrt(2 / math.pi) < path.energy
    assert kinetic_energy(Linear(), mmse, rho=4.0) == pytest.approx(2.96480, abs=1e-4)
    floored = kinetic_optimal(mmse, rho=4.0)
    assert 1.91824 < kinetic_energy(floored, mmse, rho=4.0) < 2.2


@pytest.mark.parametrize(
    "schedule",
    [
        *(Linear(), Linear(0.01), Trig(), LinearVP(), VP(), Cosine(), Polynomial(2), EDM()),
        DiscreteDiffusion(),
    ],
)
@pytest.mark.parametrize("mmse", [two_points(1), two_points(4), gaussian(1.8, 0.2)])
def test_no_schedule_has_less_energy(schedule, mmse):
    best = kinetic_optimal(mmse, floor=0.0, num_nodes=2001)
    energy = kinetic_energy(schedule, mmse)
    assert best.energy <= energy + 1e-3
    assert energy <= conditional_energy(schedule) + 1e-9


def tables():
    return {
        "two points": kinetic_optimal(two_points(4)),
        "unnormalised": kinetic_optimal(two_points(1, size=2.0), rho=4.0),
        "variances": kinetic_optimal(gaussian(1.8, 0.2)),
        "no table": Tabulated(num_nodes=33),
    }


@pytest.mark.parametrize("name", tables())
def test_ends_slopes_and_inverse(name):
    path = tables()[name]
    ends = path(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.alpha.tolist() == [0.0, pytest.approx(1.0, abs=1e-9)]
    assert ends.sigma.tolist() == [pytest.approx(1.0, abs=1e-12), 0.0]
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64).requires_grad_()
    c = path(t)
    for value, slope in ((c.alpha, c.d_alpha), (c.sigma, c.d_sigma)):
        (exact,) = torch.autograd.grad(value.sum(), t, retain_graph=True)
        torch.testing.assert_close(slope, exact, rtol=1e-8, atol=1e-8)
    t = t.detach()
    assert (path.snr(t).diff() > 0).all()
    torch.testing.assert_close(path.snr_inverse(path.snr(t)), t, rtol=0, atol=1e-8)
    far = path.snr_inverse(torch.tensor([0.0, math.inf], dtype=torch.float64))
    assert far.tolist() == [0.0, pytest.approx(1.0)]


def test_float32_times_get_float32_answers_close_to_the_float64_ones():
    path = tables()["two points"]
    t = torch.linspace(0, 1, 50)
    single, double = path(t), path(t.double())
    for name in ("alpha", "sigma", "d_alpha", "d_sigma"):
        got = getattr(single, name)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), getattr(double, name), rtol=1e-6, atol=1e-6)


def test_the_table_travels_in_the_state():
    trained = tables()["two points"]
    empty = Tabulated()
    empty.load_state_dict(trained.state_dict(), strict=True)
    t = torch.linspace(0, 1, 7)
    assert torch.equal(empty(t).alpha, trained(t).alpha)


def test_noisy_estimates_are_cleaned():
    generator = torch.Generator().manual_seed(0)

    def noisy(snr):
        clean = two_points(4)(snr)
        return clean + 0.02 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)

    path = kinetic_optimal(noisy)
    assert isinstance(path, Tabulated)
    # The floor itself costs 0.018 (1.3041 against 1.2859).
    assert kinetic_energy(path, two_points(4)) < 1.3041 + 0.02


def test_the_interpolation_is_scipys():
    from scipy.interpolate import PchipInterpolator

    x = torch.tensor([0.0, 0.3, 1.0, 1.1, 2.0], dtype=torch.float64)
    y = torch.tensor([0.0, 1.0, 1.2, 4.0, 4.5], dtype=torch.float64)
    curve = PchipInterpolator(x.numpy(), y.numpy())
    slopes = torch.as_tensor(curve.derivative()(x.numpy()))
    at = torch.linspace(0, 2, 101, dtype=torch.float64)
    value, slope = interpolate(at, x, y, slopes)
    torch.testing.assert_close(value, torch.as_tensor(curve(at.numpy())), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        slope, torch.as_tensor(curve.derivative()(at.numpy())), rtol=0, atol=1e-10
    )
    torch.testing.assert_close(invert(value, x, y, slopes), at, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kinetic_optimal(two_points(1), rho=0.0), "rho"),
        (lambda: kinetic_optimal(two_points(1), floor=1.0), "floor"),
        (lambda: Tabulated(torch.zeros(3)), "give psi"),
        (lambda: Tabulated(num_nodes=2), "num_nodes"),
        (lambda: Tabulated(scale=0.0), "scale"),
        (lambda: Tabulated(torch.zeros(3), torch.zeros(3)), "rise strictly"),
        (lambda: Tabulated(torch.zeros(3), torch.zeros(4)), "one length"),
        (lambda: Tabulated(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 0.5, 1.0])), "end at"),
        (
            lambda: Tabulated(
                torch.tensor([0.0, 0.5, math.pi / 2], dtype=torch.float64),
                torch.tensor([0.0, 0.5, 2.0]),
            ),
            "at most",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
