"""Cost and exact Monge gap of maps whose optimum is known."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.metrics import map_cost


def points(n, generator):
    return torch.randn(n, 3, generator=generator, dtype=torch.float64) * 2 + 1


def test_gradient_of_a_convex_function_has_no_gap(generator):
    x = points(50, generator)
    matrix = torch.tensor([[2.0, 0.3, 0], [0.3, 1.0, 0], [0, 0, 0.5]], dtype=torch.float64)
    found = map_cost(x, x @ matrix + 5)
    assert found.gap == pytest.approx(0, abs=1e-10)
    assert found.cost == pytest.approx(float((x @ matrix + 5 - x).square().sum(1).mean()))


def test_swapping_two_points_is_all_in_vain(generator):
    x = points(2, generator)
    found = map_cost(x, x.flip(0))
    assert found.least == pytest.approx(0, abs=1e-12)
    assert found.relative_gap == pytest.approx(1)
    assert found.gap == pytest.approx(float((x[0] - x[1]).square().sum()))


def test_the_identity_costs_nothing(generator):
    x = points(5, generator)
    assert map_cost(x, x).relative_gap == 0


def test_bad_input():
    with pytest.raises(InputError, match="one shape"):
        map_cost(torch.zeros(3, 2), torch.zeros(4, 2))
