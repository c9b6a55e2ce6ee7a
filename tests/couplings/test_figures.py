import pytest
import torch

from flowgen.core import Pair
from flowgen.couplings import cost_of, with_figures


def test_figures_of_two_pairs_by_hand():
    before = Pair(torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([[4.0, 0.0], [0.0, 2.0]]))
    after = Pair(before.x_0.flip(0), before.x_1)
    assert cost_of(before) == (16 + 20) / 4
    stats = with_figures(before, after, ms=2.0, bound=0.5, extra={"coupling/entropy": 0.1}).stats
    assert stats["coupling/cost"] == 4 / 4
    assert stats["coupling/saved"] == pytest.approx(1 - 1 / 9)
    assert stats["coupling/optimality"] == pytest.approx((9 - 1) / (9 - 0.5))
    assert stats["coupling/ms"] == 2.0
    assert stats["coupling/entropy"] == 0.1


def test_no_bound_no_optimality_and_pairs_without_distance_are_optimal():
    same = Pair(torch.ones(3, 2), torch.ones(3, 2), stats={"a": 1.0})
    stats = with_figures(same, same, ms=0.0).stats
    assert "coupling/optimality" not in stats
    assert stats["a"] == 1.0
    assert with_figures(same, same, ms=0.0, bound=0.0).stats["coupling/optimality"] == 1.0
