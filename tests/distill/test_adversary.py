"""The best logit of a contest is the log ratio of densities, and weights follow from it."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.distill import (
    Adversary,
    DensityRatio,
    ForwardKL,
    JensenShannon,
    Logistic,
    Relativistic,
)

P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)  # data, on three points
Q = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)  # samples


def best_logits(contest):
    """Minimise the critic's expected loss over logits of the three points."""
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=0)
    samples, data = (
        grid.flatten() for grid in torch.meshgrid(*[torch.arange(3)] * 2, indexing="ij")
    )

    def loss():
        solver.zero_grad()
        each = contest.critic(logits[samples], logits[data])
        total = (Q[samples] * P[data] * each).sum()
        total.backward()
        return total

    solver.step(loss)
    return logits.detach()


def test_the_best_logit_is_the_log_ratio():
    torch.testing.assert_close(best_logits(Logistic()), (P / Q).log(), rtol=1e-5, atol=1e-6)
    found = best_logits(Relativistic())
    difference = found - (P / Q).log()
    torch.testing.assert_close(difference, difference[:1].expand(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("contest", [Logistic(), Relativistic()])
def test_the_student_wants_what_the_critic_does_not(contest):
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    data = torch.linspace(-1, 1, 4).double()
    contest.student(logits, data).sum().backward()
    assert (logits.grad < 0).all()
    logits.grad = None
    contest.critic(logits, data).sum().backward()
    assert (logits.grad > 0).all()


@pytest.mark.parametrize(
    ("divergence", "second"),
    [(ForwardKL(), lambda r: 1 / r), (JensenShannon(), lambda r: 1 / (r * (r + 1)))],
)
def test_weight_is_the_curvature_of_the_divergence(divergence, second):
    """``h = r^2 f''``; and by its meaning: it turns one divergence's gradient into the other's."""
    r = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(divergence(r), r.square() * second(r))


def test_weighed_gradient_is_that_of_the_forward_divergence():
    """Of Gaussians ``N(b, 1)`` and data ``N(2, 1)``: ``d/db KL(data || samples) = b - 2``."""
    b = 1.5
    x = torch.linspace(-12, 14, 20_001, dtype=torch.float64)
    q = torch.exp(-0.5 * (x - b) ** 2) / (2 * torch.pi) ** 0.5
    ratio = torch.exp(0.5 * (x - b) ** 2 - 0.5 * (x - 2.0) ** 2)
    difference = -(x - b) + (x - 2.0)  # of the scores; d x / d b = 1
    found = torch.trapezoid(q * ForwardKL()(ratio) * difference, x)
    assert float(found) == pytest.approx(b - 2.0, abs=1e-8)


def test_weights_have_a_mean_of_one_in_each_bin(generator):
    logits = 2 * torch.randn(400, generator=generator)
    t = torch.rand(400, generator=generator)
    weights = DensityRatio(num_bins=4)(logits, t)
    for i in range(4):
        rows = (t * 4).long() == i
        assert float(weights[rows].mean()) == pytest.approx(1.0, abs=1e-5)
    inside = (logits.exp() > 0.1) & (logits.exp() < 20) & (t < 0.25)
    torch.testing.assert_close(
        weights[inside] / weights[inside][0], (logits[inside] - logits[inside][0]).exp()
    )


def test_ratios_are_limited():
    weights = DensityRatio(num_bins=1)(torch.tensor([-50.0, 50.0, 1000.0]), torch.rand(3))
    torch.testing.assert_close(weights[1:] / weights[0], torch.full((2,), 200.0))
    alone = DensityRatio()(torch.tensor([3.0]), torch.tensor([1.0]))
    assert torch.equal(alone, torch.ones(1))


def test_refuses_numbers_out_of_range():
    for name in ("weight", "smoothness"):
        with pytest.raises(InputError, match=name):
            Adversary(**{name: -1.0})
    for name in ("of_critic", "radius"):
        with pytest.raises(InputError, match=name):
            Adversary(**{name: 0.0})
    with pytest.raises(InputError, match="low"):
        DensityRatio(low=2.0, high=1.0)
    with pytest.raises(InputError, match="num_bins"):
        DensityRatio(num_bins=0)
