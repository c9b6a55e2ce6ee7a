"""Distances: values by hand, gradients, indifference to resolution, narrow types."""

import math

import pytest
import torch

from flowgen.core import InputError
from flowgen.objectives import Adaptive, Cauchy, Distance, PseudoHuber, Squared

DISTANCES = [Squared(), PseudoHuber(0.3), Cauchy(0.7), Adaptive(0.75, 0.02), Adaptive()]


def test_values_by_hand():
    """d = (3, 4): m = 25 / 2, and d = (0, 0)."""
    d = torch.tensor([[3.0, -4.0], [0.0, 0.0]], dtype=torch.float64)
    expected = {
        Squared(): 12.5,
        PseudoHuber(0.5): math.sqrt(12.5 + 0.25) - 0.5,
        Cauchy(0.7): math.log(1 + 12.5 / (2 * 0.49)),
        Adaptive(0.75, 0.5): 12.5 / 13**0.75,
    }
    for distance, value in expected.items():
        assert isinstance(distance, Distance)
        assert distance(d).tolist() == pytest.approx([value, 0.0], rel=1e-12)


@pytest.mark.parametrize("distance", DISTANCES, ids=str)
def test_resolution_and_sign_do_not_matter(distance, generator):
    d = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    fine = d.repeat(1, 8).reshape(5, 3, 2, 4)
    torch.testing.assert_close(distance(fine), distance(d))
    torch.testing.assert_close(distance(-d), distance(d))
    torch.testing.assert_close(distance(d[2:3]), distance(d)[2:3])
    assert bool((distance(1.1 * d) > distance(d)).all())


@pytest.mark.parametrize(("power", "c"), [(0.0, 0.1), (0.5, 0.1), (1.0, 1e-3)])
def test_adaptive_gradient_is_that_of_the_square_divided(power, c, generator):
    d = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    Adaptive(power, c)(d).sum().backward()
    m = d.detach().square().mean(dim=1, keepdim=True)
    torch.testing.assert_close(d.grad, 2 * d.detach() / 4 / (m + c) ** power)


def test_far_differences_pull_as_named():
    """Gradient along d at 10 and at 1000 times c: it grows, stays, or fades."""
    pulls = {}
    for distance in (Squared(), PseudoHuber(0.1), Cauchy(0.1)):
        d = torch.tensor([[1.0], [100.0]], dtype=torch.float64, requires_grad=True)
        distance(d).sum().backward()
        assert d.grad is not None
        near, far = d.grad[:, 0].tolist()
        pulls[type(distance)] = far / near
    assert pulls[Squared] == pytest.approx(100)
    assert pulls[PseudoHuber] == pytest.approx(1, rel=0.01)
    assert pulls[Cauchy] == pytest.approx(0.01, rel=0.05)


def test_small_pseudo_huber_keeps_its_digits_and_a_gradient_at_zero():
    """In float32 sqrt(m + c^2) - c is 0 for m = 1e-8 c^2; the form used is m / (2 c)."""
    d = torch.tensor([[1e-4], [0.0]], requires_grad=True)
    value = PseudoHuber(1.0)(d)
    assert value.tolist() == pytest.approx([0.5e-8, 0.0], rel=1e-5)
    value.sum().backward()
    assert d.grad is not None
    assert d.grad[:, 0].tolist() == pytest.approx([1e-4, 0.0], rel=1e-5)


@pytest.mark.parametrize("distance", DISTANCES, ids=str)
def test_half_precision_is_widened_before_it_is_squared(distance):
    d = torch.full((2, 3), 300.0, dtype=torch.float16)  # 300^2 overflows float16
    value = distance(d)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, distance(d.float()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: PseudoHuber(0.0),
        lambda: Cauchy(-1.0),
        lambda: Adaptive(1.0, 0.0),
        lambda: Adaptive(-0.1),
        lambda: Adaptive(math.inf),
    ],
)
def test_parameters_are_checked(make):
    with pytest.raises(InputError, match=r"(c|power) must be"):
        make()
