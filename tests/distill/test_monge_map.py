"""The Monge map: the Gaussian's optimal map is learnt, contexts apart, bad input refused."""

import pytest
import torch
from torch import nn

from flowgen.core import InputError, Pair, generator_for
from flowgen.couplings import monge_gap, sinkhorn_divergence
from flowgen.distill import MongeMap, contexts
from flowgen.metrics import map_cost
from known_students import AffineStudent


class AffineMap(nn.Module):
    """``T(x, c) = W_c x + b_c`` as a flow map from 0 to 1."""

    edges = (0.0, 1.0)

    def __init__(self, count=1, dims=2):
        super().__init__()
        start = torch.tensor([[0.0, -1.0], [1.0, 0.0]]).double()  # a quarter turn
        self.weight = nn.Parameter(start.repeat(count, 1, 1))
        self.bias = nn.Parameter(torch.zeros(count, dims, dtype=torch.float64))

    def mean_velocity(self, x, s, t, cond=None):
        which = torch.zeros(len(x), dtype=torch.int64) if cond is None else cond["label"]
        return torch.einsum("bij,bj->bi", self.weight[which], x) + self.bias[which] - x

    def forward(self, x, t, cond=None):
        return self.mean_velocity(x, t, t, cond)


def learn(model, objective, draw, steps=80):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(steps):
        if step == steps * 2 // 3:
            optimizer.param_groups[0]["lr"] = 0.02
        loss = objective(model, draw(step)).total()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


STRETCH = torch.tensor([[2.0, 0.0], [0.0, 0.5]]).double()


def gaussians(step):
    generator = generator_for(7, step)
    x_0, x_1 = (torch.randn(64, 2, generator=generator).double() for _ in range(2))
    return Pair(x_0, x_1 @ STRETCH + 1)


def test_the_gap_makes_of_a_fitting_map_the_optimal_one():
    """The quarter turn fits after a stretch as well, at a higher cost."""
    x = torch.randn(400, 2, generator=generator_for(1)).double()
    free = learn(AffineMap(), MongeMap(weight=0.0), gaussians)
    held = learn(AffineMap(), MongeMap(weight=1.0), gaussians)
    assert map_cost(x, x @ free.weight[0].T + free.bias[0]).relative_gap > 0.2
    assert map_cost(x, x @ held.weight[0].T + held.bias[0]).relative_gap < 0.01
    torch.testing.assert_close(held.weight[0].detach(), STRETCH, rtol=0, atol=0.25)
    torch.testing.assert_close(held.bias[0].detach(), torch.ones(2).double(), rtol=0, atol=0.15)


def test_each_context_has_its_own_map():
    shifts = torch.tensor([[3.0, 0.0], [0.0, -2.0]]).double()

    def draw(step):
        generator = generator_for(3, step)
        x_0, x_1 = (torch.randn(64, 2, generator=generator).double() for _ in range(2))
        label = torch.arange(64) % 2
        return Pair(x_0, x_1 + shifts[label], {"label": label})

    model = learn(AffineMap(2), MongeMap(), draw)
    torch.testing.assert_close(model.bias.detach(), shifts, rtol=0, atol=0.25)
    for weight in model.weight.detach():
        torch.testing.assert_close(weight, torch.eye(2).double(), rtol=0, atol=0.35)


def test_the_loss_is_the_mean_over_contexts_by_their_size(generator):
    x_0, x_1 = (torch.randn(10, 2, generator=generator).double() for _ in range(2))
    label = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 1, 1])
    model = AffineMap(2)
    loss = MongeMap(weight=0.7)(model, Pair(x_0, x_1, {"label": label}))
    expected = 0.0
    for rows in (label == 0, label == 1):
        start, ends, data = (v[rows] / 2**0.5 for v in (x_0, x_0 @ model.weight[0].T, x_1))
        one = sinkhorn_divergence(ends, data) + 0.7 * monge_gap(start, ends)
        expected = expected + rows.double().mean() * one
    torch.testing.assert_close(loss.total(), expected, rtol=1e-9, atol=0)
    assert loss.value.shape == (10,)


def test_contexts_are_rows_with_equal_conditions():
    cond = {"label": torch.tensor([1, 0, 1, 1]), "style": torch.tensor([0, 0, 0, 1])}
    found = [rows.tolist() for rows in contexts(cond, torch.zeros(4, 1))]
    assert sorted(found) == [[0, 2], [1], [3]]


def test_bad_input(generator):
    x = torch.randn(4, 1, generator=generator).double()
    with pytest.raises(InputError, match="weight must be >= 0"):
        MongeMap(weight=-1.0)
    with pytest.raises(InputError, match="pair weights mean nothing"):
        MongeMap()(AffineStudent(1.0, 0.0), Pair(x, x, None, torch.ones(4)))
    with pytest.raises(InputError, match="takes classes as contexts"):
        MongeMap()(AffineStudent(1.0, 0.0), Pair(x, x, {"prompt": torch.zeros(4, 2, 3)}))
    with pytest.raises(InputError, match="a velocity alone"):
        MongeMap()(lambda x, t, cond=None: x, Pair(x, x))
