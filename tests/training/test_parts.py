"""Averaged weights, time bins and learning-rate schedules against their formulas."""

import math

import pytest
import torch
from torch import nn

from flowgen.core import InputError, Loss, Pair
from flowgen.training import EMA, TimeBins, warmup_constant, warmup_cosine


def test_ema_follows_its_recursion():
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    ema = EMA(model, decay=0.5)
    expected = model.weight.detach().clone()
    for step in range(1, 20):
        with torch.no_grad():
            model.weight.add_(torch.randn(1, 2, dtype=torch.float64))
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    assert torch.allclose(ema.field.weight, expected, atol=1e-14)
    assert not ema.field.weight.requires_grad


def test_ema_copies_buffers_and_stays_in_evaluation_mode():
    model = nn.BatchNorm1d(2)
    ema = EMA(model, decay=0.9).train()
    model(torch.randn(8, 2) * 5)
    ema.update(model, 1)
    assert torch.equal(ema.field.running_var, model.running_var)
    assert not ema.field.training


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_ema_decay_is_checked(decay):
    with pytest.raises(InputError, match="ema.decay"):
        EMA(nn.Linear(1, 1), decay=decay)


def test_time_bins_are_means_of_the_rows_that_fall_into_them():
    bins = TimeBins(4, torch.device("cpu"))
    x = torch.zeros(5, 1)
    t = torch.tensor([0.0, 0.1, 0.5, 0.99, 1.0])
    bins.add(Loss(torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0]), Pair(x, x), t))
    bins.add(Loss(torch.tensor([2.0]), Pair(x[:1], x[:1]), torch.tensor([0.6])))
    means = bins.means()
    assert means[[0, 2, 3]].tolist() == [2.0, 3.5, 8.0]
    assert math.isnan(means[1])
    bins.reset()
    assert torch.isnan(bins.means()).all()


def rates(schedule, steps):
    values = []
    for _ in range(steps):
        values.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return values


def test_warmup_cosine_rises_then_falls_to_its_final_share():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimiser, total_steps=12, warmup=1 / 3, final=0.1)
    values = rates(schedule, 13)
    assert values[:4] == [0.5, 1.0, 1.5, 2.0]
    assert values[4] == 2.0
    assert values[8] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert values[12] == pytest.approx(0.2)


def test_warmup_constant_rises_then_stays():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    assert rates(warmup_constant(optimiser, warmup_steps=2), 4) == [0.5, 1.0, 1.0, 1.0]


def test_schedules_check_their_numbers():
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(InputError, match="total_steps"):
        warmup_cosine(optimiser, total_steps=0)
    with pytest.raises(InputError, match=r"warmup must be in \[0, 1\]"):
        warmup_cosine(optimiser, total_steps=5, warmup=1.5)
    with pytest.raises(InputError, match="final"):
        warmup_cosine(optimiser, total_steps=5, final=2.0)
    with pytest.raises(InputError, match="warmup_steps"):
        warmup_constant(optimiser, warmup_steps=-1)
