"""Pair weights against closed forms, brute force and entropic transport; their scale and state."""

import math

import numpy as np
import ot
import pytest
import torch
from torch import nn

from flowgen.core import Coupling, InputError, Pair
from flowgen.couplings import DataTilt, SinkhornTilt, Weighted
from flowgen.objectives import FlowMatching
from flowgen.paths import AffinePath, Linear
from flowgen.training.micro_batches import chunks


def half_square(x, y):
    """The cost of the Gaussian closed form."""
    return torch.cdist(x, y).square() / 2


def gaussians(n, generator, std=2.0, mean=0.0):
    x = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    y = std * torch.randn(n, 1, generator=generator, dtype=torch.float64) + mean
    return Pair(x, y)


def cloud(n, generator, shape=(3,)):
    x_0 = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    return Pair(x_0, 0.6 * torch.randn(n, *shape, generator=generator, dtype=torch.float64) + 0.7)


def all_pairs(x, y):
    """Every pair of two small sets as the rows of one batch."""
    n, m = len(x), len(y)
    return Pair(x.repeat_interleave(m, dim=0), y.repeat(n, 1))


@pytest.mark.parametrize(("std", "epsilon"), [(1.0, 1.0), (2.0, 1.0), (0.5, 3.0)])
def test_weighted_gaussians_have_the_closed_form_covariance(std, epsilon, generator):
    """10^6 pairs of N(0, 1) and N(0, s^2), weight exp(-|x - y|^2 / (2 e)): 2 %."""
    coupling = Weighted(epsilon=epsilon, cost=half_square, warm_up=1, max_weight=1e6)
    sums = torch.zeros(4, dtype=torch.float64)
    for _ in range(20):
        pair = coupling(gaussians(50_000, generator, std))
        w, x, y = pair.weight, pair.x_0[:, 0], pair.x_1[:, 0]
        sums += torch.stack([w.sum(), (w * x * x).sum(), (w * y * y).sum(), (w * x * y).sum()])
    found = (sums[1:] / sums[0]).tolist()
    scale = 1 + epsilon + std**2
    expected = [(epsilon + std**2) / scale, std**2 * (1 + epsilon) / scale, std**2 / scale]
    assert found == pytest.approx(expected, rel=0.02)


class Shrink(nn.Module):
    """``v(x, t) = a(t) x`` with a polynomial ``a``: enough for Gaussians on a line."""

    def __init__(self):
        super().__init__()
        self.coefficients = nn.Parameter(torch.zeros(9, dtype=torch.float64))

    def forward(self, x, t, cond=None):
        powers = torch.stack([(2 * t - 1) ** k for k in range(9)], dim=1)
        return (powers @ self.coefficients)[:, None] * x


def test_trained_flow_has_the_variance_that_the_weights_lead_to(generator):
    """Linear flow of tilted Gaussians, sampled from the source that is not tilted: 5 %.

    It carries N(0, (e + s^2) / (1 + e + s^2)) to N(0, s^2 (1 + e) / (1 + e + s^2)), so N(0, 1)
    ends at the variance s^2 (1 + e) / (e + s^2): 1.6 for data of variance 4.
    """
    std, epsilon = 2.0, 1.0
    coupling = Weighted(epsilon=epsilon, cost=half_square, max_weight=1e6)
    pair, objective, model = (
        coupling(gaussians(100_000, generator, std)),
        FlowMatching(AffinePath(Linear())),
        Shrink(),
    )
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        total = objective(model, pair, generator=torch.Generator().manual_seed(1)).total()
        total.backward()
        return total

    optimizer.step(closure)
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    with torch.no_grad():
        rate = model(torch.ones(2001, 1, dtype=torch.float64), t)[:, 0]
    scale = torch.trapezoid(rate, t).exp()
    assert float(scale**2) == pytest.approx(std**2 * (1 + epsilon) / (epsilon + std**2), rel=0.05)


@pytest.mark.parametrize("epsilon", [0.3, 2.0])
def test_the_weighted_law_is_the_entropic_plan_between_its_own_marginals(epsilon, generator):
    x = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    y = 1.5 * torch.randn(5, 2, generator=generator, dtype=torch.float64) + 1
    weight = Weighted(epsilon=epsilon, max_weight=1e9)(all_pairs(x, y)).weight
    plan = (weight / weight.sum()).reshape(7, 5).numpy()
    cost = torch.cdist(x, y).numpy()
    again = ot.sinkhorn(
        plan.sum(1), plan.sum(0), cost, epsilon, "sinkhorn_log", numItermax=100_000, stopThr=1e-14
    )
    assert np.abs(again - plan).max() < 1e-12
    assert np.abs(plan.sum(1) - 1 / 7).max() > 1e-3, "the case has no tilt"


def test_tilt_in_the_log_is_that_of_small_sets_by_hand(generator):
    """Means over the 6 rows of each side, computed with loops."""
    pair = cloud(6, generator)
    coupled = Weighted(0.4)(pair)
    kernel = [
        [math.exp(-float((a - b).norm()) / (0.4 * math.sqrt(3))) for b in pair.x_1]
        for a in pair.x_0
    ]
    by_hand = {
        "rv_x": [sum(row) / 6 for row in kernel],
        "rv_y": [sum(row[j] for row in kernel) / 6 for j in range(6)],
    }
    for name, tau in by_hand.items():
        mean = sum(tau) / 6
        expected = sum((value - mean) ** 2 for value in tau) / 6 / mean**2
        assert float(coupled.stats[f"coupling/{name}"]) == pytest.approx(expected, rel=1e-9)
    own = [kernel[i][i] for i in range(6)]
    weight = [value * 6 / sum(own) for value in own]
    assert coupled.weight.tolist() == pytest.approx(weight, rel=1e-9)
    stats = {name: float(value) for name, value in coupled.stats.items()}
    assert stats["coupling/ess"] == pytest.approx(36 / (6 * sum(w * w for w in weight)))
    squares = (pair.x_0 - pair.x_1).square().mean(1).tolist()
    cost = sum(w * s for w, s in zip(weight, squares, strict=True)) / 6
    assert stats["coupling/cost"] == pytest.approx(cost)
    assert stats["coupling/saved"] == pytest.approx(1 - cost / (sum(squares) / 6))
    norms = pair.x_1.square().sum(1).tolist()
    norm = sum(w * s for w, s in zip(weight, norms, strict=True)) / sum(norms)
    assert stats["coupling/norm"] == pytest.approx(norm)
    assert stats["coupling/clamped"] == 0


def kernel_of(coupling, pair):
    everything, own = coupling._log_weights(pair.x_0.flatten(1), pair.x_1.flatten(1))
    assert torch.equal(everything.diagonal(), own)
    return everything.exp()


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_correction_of_the_data_leaves_no_tilt_there(shape, generator):
    pair = cloud(9, generator, shape)
    plain = (-torch.cdist(pair.x_0.flatten(1), pair.x_1.flatten(1)) / 0.5).exp()
    kernel = kernel_of(Weighted(epsilon=0.5, correction=DataTilt()), pair)
    assert torch.allclose(kernel, plain / plain.mean(dim=0), rtol=1e-12)
    stats = Weighted(epsilon=0.5, correction=DataTilt())(pair).stats
    assert float(stats["coupling/rv_y"]) < 1e-20
    assert float(stats["coupling/rv_x"]) > 1e-3


def test_sinkhorn_correction_leaves_none_and_is_the_entropic_plan(generator):
    pair = cloud(12, generator)
    coupling = Weighted(epsilon=0.5, correction=SinkhornTilt(400))
    kernel = kernel_of(coupling, pair)
    ones = torch.ones(12, dtype=torch.float64)
    assert torch.allclose(kernel.mean(0), ones, atol=1e-12)
    assert torch.allclose(kernel.mean(1), ones, atol=1e-9)
    uniform = np.full(12, 1 / 12)
    cost = torch.cdist(pair.x_0, pair.x_1).numpy()
    plan = ot.sinkhorn(
        uniform, uniform, cost, 0.5, "sinkhorn_log", numItermax=100_000, stopThr=1e-14
    )
    assert np.abs(kernel.numpy() / 144 - plan).max() < 1e-12


@pytest.mark.parametrize("correction", [DataTilt(), SinkhornTilt(20)])
def test_corrected_data_keep_their_mean_and_the_plain_weights_move_it(correction, generator):
    """Of data with a heavy end, over many small batches of 16 pairs: no bias of the batch size."""
    sums = {"plain": torch.zeros(2), "corrected": torch.zeros(2)}
    couplings = {
        "plain": Weighted(epsilon=1.0, warm_up=1),
        "corrected": Weighted(epsilon=1.0, correction=correction, max_weight=1e6),
    }
    for _ in range(1000):
        x_1 = torch.randn(16, 2, generator=generator).exp()
        given = Pair(torch.randn(16, 2, generator=generator), x_1)
        for name, coupling in couplings.items():
            weight = coupling(given).weight
            sums[name] += torch.stack([weight.sum(), (weight * x_1[:, 0]).sum()])
    exact = math.exp(0.5)
    # 16000 rows of std 2.2 and an effective share above 0.2: standard error below 0.04.
    assert float(sums["corrected"][1] / sums["corrected"][0]) == pytest.approx(exact, abs=0.12)
    assert float(sums["corrected"][0]) / 16000 == pytest.approx(1.0, abs=0.03)
    assert float(sums["plain"][1] / sums["plain"][0]) < exact - 0.3


def test_weights_have_mean_one_by_a_running_scale_that_settles(generator):
    coupling = Weighted(0.3, decay=0.9)
    weights = [coupling(cloud(64, generator)).weight for _ in range(300)]
    assert float(weights[0].mean()) == pytest.approx(1.0)
    assert float(torch.cat(weights[20:]).mean()) == pytest.approx(1.0, abs=0.02)
    # Not of every batch by itself: that would be a bias.
    assert float(torch.stack([w.mean() for w in weights[20:]]).std()) > 0.02


def test_scale_stays_after_the_warm_up_and_follows_from_the_saved_state(generator):
    coupling = Weighted(0.3, warm_up=3)
    batches = [cloud(32, generator) for _ in range(6)]
    states = []
    for batch in batches[:5]:
        coupling(batch)
        states.append(dict(coupling.state_dict()))
    scales = [float(state["value"]) for state in states]
    assert len(set(scales[:3])) == 3
    assert scales[2] == scales[3] == scales[4]
    logs = [
        math.log(float((-(b.x_0 - b.x_1).norm(dim=1) / (0.3 * math.sqrt(3))).exp().mean()))
        for b in batches
    ]
    assert scales[1] == pytest.approx((logs[0] + logs[1]) / 2)
    again = Weighted(0.3, warm_up=3)
    again.load_state_dict(states[1])
    assert torch.equal(again(batches[2]).weight, _after(2, batches))
    with pytest.raises(InputError, match="a value and a count"):
        again.load_state_dict({"value": torch.zeros(())})


def _after(k, batches):
    coupling = Weighted(0.3, warm_up=3)
    return [coupling(batch).weight for batch in batches][k]


def test_scale_becomes_an_exponential_mean(generator):
    coupling = Weighted(epsilon=1.0, decay=0.5, warm_up=None)
    distances = [1.0, 2.0, 4.0, 8.0]
    expected = 0.0
    for k, distance in enumerate(distances):
        coupling(Pair(torch.zeros(4, 1), torch.full((4, 1), distance)))
        rate = max(1 / (k + 1), 0.5)
        expected += rate * (-distance - expected)
    assert float(coupling.state_dict()["value"]) == pytest.approx(expected)


def test_a_batch_that_is_not_finite_leaves_the_scale_alone(generator):
    coupling, same = Weighted(0.3), Weighted(0.3)
    first, broken, last = (cloud(16, generator) for _ in range(3))
    broken.x_1[3, 1] = torch.nan
    coupling(first)
    same(first)
    assert bool(coupling(broken).weight.isnan().any())
    assert torch.equal(coupling(last).weight, same(last).weight)


def test_a_weight_above_the_largest_is_cut_and_counted():
    x_1 = torch.cat([torch.zeros(1, 1), torch.full((199, 1), 10.0)])
    coupled = Weighted(epsilon=1.0)(Pair(torch.zeros(200, 1), x_1))
    assert float(coupled.weight.max()) == pytest.approx(50.0)
    assert float(coupled.stats["coupling/clamped"]) == pytest.approx(1 / 200)


def test_kappa_is_the_strength_over_the_root_of_the_dimension(generator):
    pair = cloud(10, generator, (2, 3, 4))
    by_kappa, by_epsilon = Weighted(0.2), Weighted(epsilon=0.2 * math.sqrt(24))
    assert torch.allclose(by_kappa(pair).weight, by_epsilon(pair).weight, rtol=1e-12)
    assert by_kappa.strength(24) == by_epsilon.strength(24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("correction", [None, DataTilt(), SinkhornTilt()])
def test_pairs_stay_and_one_row_has_weight_one(dtype, correction, generator):
    for n in (1, 8):
        x = torch.randn(n, 1, 3, 3, generator=generator).to(dtype)
        given = Pair(x, x.flip(2) + 1, stats={"before": 1.0})
        coupling = Weighted(0.5, correction=correction)
        coupled = coupling(given)
        assert coupled.x_0 is given.x_0
        assert coupled.x_1 is given.x_1
        assert coupled.weight.dtype == torch.float32
        assert coupled.weight.shape == (n,)
        assert coupled.stats["before"] == 1.0
        assert isinstance(coupling, Coupling)
        if n == 1:
            assert float(coupled.weight) == pytest.approx(1.0, abs=1e-6)


def test_micro_batches_add_up_to_the_whole(generator):
    """The mean of ``weight * loss`` over a batch, whatever the parts."""
    pair = Weighted(0.3)(cloud(10, generator))
    value = torch.rand(10, generator=generator, dtype=torch.float64)

    def total(size):
        found, start = torch.zeros((), dtype=torch.float64), 0
        for part, last in chunks(pair, size):
            rows = slice(start, start + len(part))
            loss = (value[rows] * part.weight).mean()
            found = found + loss * len(part) / len(pair)
            start += len(part)
            assert last == (start == 10)
        return float(found)

    assert total(3) == pytest.approx(total(None), rel=1e-12)
    assert total(4) == pytest.approx(float((value * pair.weight).mean()), rel=1e-12)


def test_what_it_says_of_itself_and_refuses(generator):
    def facts(coupling):
        return coupling.score_valid, coupling.exact_marginals, coupling.condition_safe

    assert facts(Weighted(0.1)) == (False, False, False)
    assert facts(Weighted(0.1, correction=DataTilt())) == (False, False, False)
    assert facts(Weighted(0.1, correction=SinkhornTilt())) == (False, True, False)
    given = cloud(4, generator)
    with pytest.raises(InputError, match="class_assignment for labels or coupling=condition_"):
        Weighted(0.1)(Pair(given.x_0, given.x_1, {"label": torch.zeros(4)}))
    with pytest.raises(InputError, match="weights of its own"):
        Weighted(0.1)(Pair(given.x_0, given.x_1, weight=torch.ones(4)))
    for words, message in [
        ({}, "one of the two"),
        ({"kappa": 1.0, "epsilon": 1.0}, "one of the two"),
        ({"kappa": 0.0}, "kappa must be > 0"),
        ({"epsilon": math.inf}, "epsilon must be > 0"),
        ({"kappa": 0.1, "max_weight": 1.0}, "max_weight"),
        ({"kappa": 0.1, "decay": 1.0}, "decay"),
        ({"kappa": 0.1, "warm_up": 0}, "warm_up"),
    ]:
        with pytest.raises(InputError, match=message):
            Weighted(**words)
    with pytest.raises(InputError, match="iterations"):
        SinkhornTilt(0)
