"""Whether bfloat16 pays is measured in turns, by medians, with a margin."""

import time

import pytest
import torch

from flowgen.core import bfloat16, cpu_prefers_bfloat16
from flowgen.core.bfloat16 import seconds_ratio


@pytest.fixture
def measure():
    """The function itself, without what this process has measured before."""
    return cpu_prefers_bfloat16.__wrapped__


def test_the_ratio_is_that_of_medians_of_turns(monkeypatch):
    now, order = [0.0], []

    def work(name, slow_turns, seconds):
        def run():
            order.append(name)
            turn = order.count(name) - 1
            now[0] += 100.0 if turn in slow_turns else seconds

        return run

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    # The first turns prepare; of the others a few are disturbed by other work.
    ratio = seconds_ratio(work("a", {0, 3, 5}, 6.0), work("b", {0, 1, 2, 9}, 2.0))
    assert ratio == pytest.approx(3.0)
    assert order == ["a", "b"] * (len(order) // 2)


@pytest.mark.parametrize(("ratio", "expected"), [(0.6, False), (1.4, False), (1.6, True)])
def test_only_a_clear_gain_counts(ratio, expected, measure, monkeypatch):
    monkeypatch.setattr(bfloat16, "seconds_ratio", lambda one, other: ratio)
    assert measure() is expected


def test_without_its_library_nothing_is_measured(measure, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(bfloat16, "seconds_ratio", lambda one, other: 1 / 0)
    assert measure() is False


def test_both_products_are_the_same():
    one, other = (product() for product in bfloat16.products())
    assert (one.dtype, other.dtype) == (torch.float32, torch.bfloat16)
    assert float((other.float() - one).norm() / one.norm()) < 0.01
