"""Jumps of the exact map from two times have one law, and the discrepancy of one law is none."""

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError, Pair
from flowgen.distill import MomentMatching, NoiseGap, TwoTimes, discrepancy
from flowgen.paths import AffinePath, Linear
from oracles import GaussianOracle

PATH = AffinePath(Linear())
MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])
APART = NoiseGap(TwoTimes(diagonal=0.0), gap=0.5)


@pytest.fixture
def oracle():
    return GaussianOracle(MEAN, COV)


def everyone(groups, rows):
    return torch.ones(groups, rows, rows, dtype=torch.bool)


def test_discrepancy_is_that_of_the_kernel():
    generator = torch.Generator().manual_seed(0)
    y, z = (torch.randn(3, 4, 2, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    found = discrepancy(y, z, 0.3, everyone(3, 4))
    for group in range(3):

        def k(a, b):
            return torch.exp(-(a - b).square().mean().sqrt() / 0.3)

        total = sum(
            k(a, b) + k(c, d) - 2 * k(a, d)
            for a, c in zip(y[group], z[group], strict=True)
            for b, d in zip(y[group], z[group], strict=True)
        )
        torch.testing.assert_close(found[group], total / 16)
    assert (discrepancy(y, y, 0.3, everyone(3, 4)).abs() < 1e-15).all()
    assert (found > 0).all()


@pytest.mark.parametrize("shape", [(2,), (1, 2, 1)])
def test_exact_map_has_no_discrepancy_beyond_that_of_a_row_with_itself(shape):
    """Pairs of different rows are an unbiased estimate of ``MMD^2``, whose mean is 0."""
    oracle = GaussianOracle(MEAN, COV, shape=shape)
    n, rows = 40_000, 4
    generator = torch.Generator().manual_seed(0)
    pair = oracle.sample(n, generator=generator)
    objective = MomentMatching(PATH, APART, particles=rows)
    draws = torch.Generator().manual_seed(1)
    loss = objective(ExactMap(oracle), pair, generator=draws).detached()
    found = APART(n // rows, generator=torch.Generator().manual_seed(1))
    s, r, t = (x.double().repeat_interleave(rows) for x in (found.s, found.r, found.t))
    y, z = (oracle.flow(PATH.sample(pair, x).x_t, x, t) for x in (s, r))
    gap = (y - z).flatten(1).square().mean(dim=1).sqrt()
    own = 2 - 2 * torch.exp(-gap)
    others = (loss.value - own.view(-1, rows).mean(dim=1).repeat_interleave(rows) / rows)[::rows]
    error = others.std() / len(others) ** 0.5
    assert abs(float(others.mean())) < 3 * float(error)
    wrong = objective(
        ExactMap(oracle, error=0.5), pair, generator=torch.Generator().manual_seed(1)
    ).detached()
    assert float((wrong.value - loss.value).mean()) > 20 * float(error)


def test_one_particle_is_a_consistency_loss(oracle, generator):
    pair = oracle.sample(64, generator=generator)
    objective = MomentMatching(PATH, APART, particles=1, width=0.7)
    loss = objective(ExactMap(oracle, error=0.2), pair, generator=generator).detached()
    assert (loss.value > 0).all()
    gap = loss.terms["residual"].sqrt()
    torch.testing.assert_close(loss.value, 2 - 2 * torch.exp(-gap / 0.7))


def test_residuals_are_in_the_order_of_the_rows(oracle, generator):
    """Groups are formed by class; the log bins losses and residuals by the times of the rows."""
    pair = oracle.sample(64, generator=generator)
    pair = Pair(pair.x_0, pair.x_1, {"label": torch.arange(64) * 7 % 5})
    objective = MomentMatching(PATH, APART, particles=1)
    loss = objective(ExactMap(oracle, error=0.2), pair, generator=generator).detached()
    gap = loss.terms["residual"].sqrt()
    torch.testing.assert_close(loss.value, 2 - 2 * torch.exp(-gap))


def test_residuals_of_rows_left_over_leave_the_mean(oracle, generator):
    pair = oracle.sample(7, generator=generator)
    pair = Pair(pair.x_0, pair.x_1, {"label": torch.tensor([3, 0, 1, 0, 2, 1, 2])})
    objective = MomentMatching(PATH, APART, particles=2)
    student = ExactMap(oracle, error=0.2)
    loss = objective(student, pair, generator=torch.Generator().manual_seed(1)).detached()
    assert loss.terms["residual"][0] == loss.value[0] == loss.t[0] == 0
    used = [1, 3, 2, 5, 4, 6]
    few = Pair(pair.x_0[used], pair.x_1[used], {"label": pair.cond["label"][used]})
    whole = objective(student, few, generator=torch.Generator().manual_seed(1)).detached()
    expected = whole.terms["residual"]
    torch.testing.assert_close(loss.terms["residual"][used], 7 / 6 * expected)


def test_gradient_passes_through_the_jump_from_more_noise_alone(oracle):
    pair = oracle.sample(64, generator=torch.Generator().manual_seed(0))
    student, kept = (ExactMap(oracle, error=0.3) for _ in range(2))
    objective = MomentMatching(PATH, APART, particles=4)
    objective(student, pair, generator=torch.Generator().manual_seed(1)).total().backward()
    found = APART(16, generator=torch.Generator().manual_seed(1))
    s, r, t = (x.double().repeat_interleave(4) for x in (found.s, found.r, found.t))
    x, middle = (PATH.sample(pair, time).x_t for time in (s, r))
    y = x + (t - s)[:, None] * kept.mean_velocity(x, s, t)
    z = (middle + (t - r)[:, None] * kept.mean_velocity(middle, r, t)).detach()
    found = discrepancy(y.view(16, 4, 2), z.view(16, 4, 2), 1.0, everyone(16, 4))
    found.mean().backward()
    torch.testing.assert_close(student.error.grad, kept.error.grad, rtol=1e-6, atol=0)


def test_rows_of_different_labels_do_not_see_each_other(oracle, generator):
    """Whatever the order of the rows, groups are of one label; those at a border have two parts."""
    pair = oracle.sample(32, generator=generator)
    label = torch.arange(32) % 4
    objective = MomentMatching(PATH, APART, particles=4)
    mixed = Pair(pair.x_0, pair.x_1, {"label": label})
    order = label.argsort(stable=True)
    sorted_ = Pair(pair.x_0[order], pair.x_1[order])
    losses = [
        objective(ExactMap(oracle, error=0.2), rows, generator=torch.Generator().manual_seed(1))
        for rows in (mixed, sorted_)
    ]
    torch.testing.assert_close(losses[0].value[order], losses[1].value)
    torch.testing.assert_close(losses[0].t[order], losses[1].t)
    y, z = (torch.randn(1, 4, 3, generator=generator) for _ in range(2))
    halves = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2))[None] > 0
    parts = [
        discrepancy(y[:, rows], z[:, rows], 1.0, everyone(1, 2)) for rows in (slice(2), slice(2, 4))
    ]
    torch.testing.assert_close(discrepancy(y, z, 1.0, halves), (parts[0] + parts[1]) / 4)


def test_rows_left_over_learn_nothing_and_change_no_mean(oracle):
    pair = oracle.sample(11, generator=torch.Generator().manual_seed(0))
    objective = MomentMatching(PATH, APART, particles=4)
    student = ExactMap(oracle, error=0.3)
    eight = Pair(pair.x_0[:8], pair.x_1[:8])
    loss, other = (
        objective(student, rows, generator=torch.Generator().manual_seed(1))
        for rows in (pair, eight)
    )
    assert (loss.value[8:] == 0).all()
    torch.testing.assert_close(loss.total(), other.total())
    few = Pair(pair.x_0[:2], pair.x_1[:2])
    assert objective(student, few).value.isfinite().all()


def test_middle_has_less_noise_by_the_gap(generator):
    found = NoiseGap(TwoTimes(diagonal=0.0), gap=0.1)(2000, generator=generator)
    s, r, t = (x.double() for x in (found.s, found.r, found.t))
    gap = 1 / s - 1 / r
    before = r < t
    assert 0 < int(before.sum()) < 2000
    inside = before & (s > 0.02)
    torch.testing.assert_close(gap[inside], torch.full_like(gap[inside], 0.1), rtol=2e-3, atol=0)
    assert (1 / s - 1 / t <= 0.1 + 1e-3)[~before].all()
    assert (r >= s).all()


def test_bad_settings_are_told():
    for make, match in (
        (lambda: MomentMatching(PATH, APART, particles=0), "particles"),
        (lambda: MomentMatching(PATH, APART, width=0.0), "width"),
        (lambda: NoiseGap(TwoTimes(), gap=0.0), "gap"),
    ):
        with pytest.raises(InputError, match=match):
            make()
    oracle = GaussianOracle(MEAN, COV)
    with pytest.raises(InputError, match="velocity alone"):
        MomentMatching(PATH, APART)(oracle, oracle.sample(4))
