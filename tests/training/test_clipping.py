"""The short way of clipping is torch's to the last bit."""

import math

import pytest
import torch
from torch import nn

from flowgen.training.optimization import Optimization


def optimization(gradients, *, plain):
    parameters = [nn.Parameter(torch.zeros_like(each)) for each in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    # One that took no part in the loss.
    parameters.append(nn.Parameter(torch.zeros(2)))
    found = object.__new__(Optimization)
    found.learnt, found.plain = parameters, plain
    return found


@pytest.mark.parametrize("most", [1e-3, 1.0, 11.0, 1e4, math.inf])
def test_both_ways_give_the_same_gradients(most, generator):
    gradients = [torch.randn(shape, generator=generator) for shape in [(3, 4), (5,), (2, 2, 2), ()]]
    ours, theirs = (optimization(gradients, plain=plain) for plain in (True, False))
    before = torch.cat([each.flatten() for each in gradients]).norm()
    for each in (ours, theirs):
        torch.testing.assert_close(each.clip(most), before)
    for mine, other in zip(ours.learnt[:-1], theirs.learnt[:-1], strict=True):
        assert torch.equal(mine.grad, other.grad)
    after = torch.cat([each.grad.flatten() for each in ours.learnt[:-1]]).norm()
    assert after == pytest.approx(min(most, float(before)), rel=1e-5)
    assert ours.learnt[-1].grad is None


def test_a_gradient_that_is_not_finite_has_such_a_norm():
    for value in (math.inf, math.nan):
        assert not optimization([torch.tensor([1.0, value])], plain=True).clip(1.0).isfinite()
