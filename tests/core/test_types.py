"""Records: alignment is checked once, weights act in one place."""

import pytest
import torch

from flowgen.core import Coefficients, InputError, Loss, Pair


def test_pair_refuses_rows_that_do_not_belong_together():
    x = torch.zeros(3, 2)
    with pytest.raises(InputError, match="one shape"):
        Pair(x, torch.zeros(4, 2))
    with pytest.raises(InputError, match="batch and a sample axis"):
        Pair(torch.zeros(3), torch.zeros(3))
    with pytest.raises(InputError, match="cond 'label' has 2 rows for 3"):
        Pair(x, x, {"label": torch.zeros(2)})
    with pytest.raises(InputError, match=r"weight must have shape \(3,\)"):
        Pair(x, x, weight=torch.ones(2))


@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (4, 1, 2, 2)])
def test_pair_length_is_the_batch(shape):
    assert len(Pair(torch.zeros(shape), torch.zeros(shape))) == shape[0]


def test_total_is_the_weighted_mean():
    value, t = torch.tensor([1.0, 2.0, 6.0]), torch.zeros(3)
    x = torch.zeros(3, 2)
    assert Loss(value, Pair(x, x), t).total() == 3.0
    weighted = Pair(x, x, weight=torch.tensor([2.0, 0.5, 0.5]))
    assert Loss(value, weighted, t).total() == pytest.approx((2.0 + 1.0 + 3.0) / 3)


def test_detached_loss_has_no_graph_and_the_same_numbers():
    value = torch.ones(2, requires_grad=True) * 3
    x = torch.zeros(2, 1)
    loss = Loss(value, Pair(x, x), torch.rand(2), {"part": value * 2}).detached()
    assert not loss.value.requires_grad
    assert not loss.terms["part"].requires_grad
    assert torch.equal(loss.terms["part"], torch.full((2,), 6.0))


def test_wronskian_is_the_derivative_of_snr_times_sigma_squared():
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    alpha, sigma = torch.sin(t), torch.exp(-t)
    c = Coefficients(alpha, sigma, torch.cos(t), -torch.exp(-t))
    h = 1e-6
    snr = lambda s: torch.sin(s) * torch.exp(s)  # noqa: E731
    slope = (snr(t + h) - snr(t - h)) / (2 * h)
    assert torch.allclose(c.wronskian / sigma**2, slope, atol=1e-8)
