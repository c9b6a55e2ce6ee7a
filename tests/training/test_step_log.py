"""The log of steps: loss and residual of each time bin, and what a checkpoint keeps of them."""

import math

import pytest
import torch

from flowgen.core import Loss, Pair
from flowgen.training.step_log import StepLog

CPU = torch.device("cpu")
T = torch.tensor([0.1, 0.4, 0.6, 0.7])


def step(residual, value=(1.0, 1.0, 1.0, 1.0)):
    """Return a loss that saturates, with a residual that tells where it errs."""
    x = torch.zeros(4, 1)
    terms = {} if residual is None else {"residual": torch.tensor(residual)}
    return Loss(torch.tensor(value), Pair(x, x), T, terms)


def same(sums):
    return sums


def test_residuals_are_means_of_the_rows_that_fall_into_them():
    log = StepLog(2)
    log.add([step([2.0, 4.0, 10.0, 20.0]), step([6.0, math.nan, 30.0, 40.0])], {})
    row = log.row(same)
    assert (row["residual/t0.0"], row["residual/t0.5"]) == (4.0, 25.0)
    assert (row["loss"], row["loss/t0.0"], row["loss/t0.5"]) == (1.0, 1.0, 1.0)
    # The next row begins anew.
    log.add([step([1.0, 1.0, 3.0, 5.0])], {})
    assert log.row(same)["residual/t0.5"] == 4.0


def test_a_residual_of_the_first_rows_alone_has_their_times():
    """Objectives with rows without a length tell it of the others, which come first."""
    log = StepLog(2)
    log.add([step([2.0, 4.0, 10.0])], {})
    row = log.row(same)
    assert (row["residual/t0.0"], row["residual/t0.5"]) == (3.0, 10.0)
    log.add([step([])], {})
    assert math.isnan(StepLog.row(log, same)["residual/t0.0"])


@pytest.mark.parametrize("residual", [None, 3.0])
def test_without_a_residual_of_each_row_nothing_is_added(residual):
    log = StepLog(2)
    log.add([step(residual)], {})
    assert log.state().shape == (2, 2)
    assert log.residuals is None
    assert not any(name.startswith("residual/") for name in log.row(same))


def test_row_is_that_of_all_processes():
    log = StepLog(2)
    log.add([step([2.0, 4.0, 10.0, 20.0])], {})
    calls = []

    def over_all(sums):
        calls.append(sums.shape)
        # Of another process: three rows in each bin, with losses of 3 and residuals of 7.
        return sums + torch.tensor([[9.0, 9.0], [3.0, 3.0], [21.0, 21.0], [3.0, 3.0]])

    row = log.row(over_all)
    assert calls == [(4, 2)]
    assert row["loss"] == pytest.approx(22 / 10)
    assert row["residual/t0.0"] == pytest.approx(27 / 5)
    assert row["residual/t0.5"] == pytest.approx(51 / 5)


def test_goes_on_where_its_state_was_taken():
    straight, first, second = StepLog(2), StepLog(2), StepLog(2)
    one = step([2.0, 4.0, 10.0, 20.0], (1.0, 2.0, 3.0, 4.0))
    other = step([5.0, 6.0, 7.0, 9.0], (2.0, 2.0, 2.0, 2.5))
    for log in (straight, first):
        log.add([one], {"lr": 0.1})
    kept = first.state().clone()
    second.load(kept, CPU)
    for log in (straight, second):
        log.add([other], {"lr": 0.1})
    assert second.row(same) == straight.row(same)
    # What was loaded is a copy.
    assert torch.equal(kept, first.state())


def test_sums_of_an_earlier_version_are_of_the_loss_alone():
    log = StepLog(2)
    log.load(torch.tensor([[3.0, 8.0], [2.0, 2.0]]), CPU)
    assert log.state().tolist() == [[3.0, 8.0], [2.0, 2.0]]
    log.add([step([2.0, 4.0, 10.0, 20.0])], {})
    row = log.row(same)
    assert (row["loss/t0.0"], row["residual/t0.0"]) == (5 / 4, 3.0)
    log.load(None, CPU)
    assert log.state() is None
