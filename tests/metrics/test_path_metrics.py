import math

import pytest
import torch
from scipy.integrate import quad

from flowgen.core import InputError
from flowgen.metrics import PathStatistics, exact_w2, path_statistics
from oracles import GaussianOracle, MixtureOracle

NODES = torch.linspace(0, 1, 401, dtype=torch.float64)


def exact_states(oracle, x_0, nodes=NODES):
    """Return the states of the exact flow at all nodes."""
    start = torch.full((len(x_0),), float(nodes[0]), dtype=torch.float64)
    return torch.stack([oracle.flow(x_0, start, start * 0 + t) for t in nodes])


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1)], ids=str)
def test_closed_form_of_gaussians(shape):
    # x_t = t m + r(t) z with r^2 = t^2 s^2 + (1-t)^2, so v = m + r'(t) z
    m, s = 1.5, 0.4
    oracle = GaussianOracle(
        torch.tensor([m]), torch.tensor([[s**2]], dtype=torch.float64), shape=shape
    )
    z = torch.tensor([-1.0, 1.0]).double().reshape(2, *shape)  # mean 0, mean square 1

    def speed(t):
        return (t * s**2 - (1 - t)) / math.sqrt(t**2 * s**2 + (1 - t) ** 2)

    result = path_statistics(oracle, exact_states(oracle, z), NODES)
    energy = m**2 + quad(lambda t: speed(t) ** 2, 0, 1)[0]
    cost = m**2 + (s - 1) ** 2
    length = quad(lambda t: (abs(m + speed(t)) + abs(m - speed(t))) / 2, 0, 1, limit=200)[0]
    # the trapezoidal rule errs by h^2 = 6e-6 times the curvature of the integrand
    assert result.path_energy == pytest.approx(energy, abs=2e-4)
    assert result.arc_length == pytest.approx(length, abs=2e-4)
    assert result.transport_cost == pytest.approx(cost, abs=1e-12)
    assert result.straightness == pytest.approx(energy - cost, abs=2e-4)
    assert result.num_samples == 2
    assert oracle.w2_squared() == pytest.approx(cost)
    assert result.npe(cost) == pytest.approx((energy - cost) / cost, abs=2e-4)
    assert result.energy_ratio(cost) == pytest.approx(energy / cost, abs=2e-4)
    assert result.npe(2 * energy) == pytest.approx(0.5, abs=2e-4)  # below the distance: absolute


def test_straightness_is_energy_minus_cost():
    # errors of the trapezoidal rule must be the only difference: they fall as h^2
    cov = torch.tensor([[2.0, 0.5], [0.5, 0.3]]).double()
    oracle = GaussianOracle(torch.tensor([1.0, -2.0]), cov)
    x_0 = oracle.sample(20, generator=torch.Generator().manual_seed(0)).x_0
    gaps = []
    for n in (100, 200):
        nodes = torch.linspace(0, 1, n + 1, dtype=torch.float64) ** 1.5
        result = path_statistics(oracle, exact_states(oracle, x_0, nodes), nodes)
        gaps.append(abs(result.straightness - result.path_energy + result.transport_cost))
    assert gaps[1] < 1e-3
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.1)
    assert result.arc_length**2 <= result.path_energy
    assert result.transport_cost <= result.path_energy


@pytest.mark.parametrize("shape", [(2,), (2, 1, 1)], ids=str)
def test_straight_lines_have_no_straightness_and_energy_of_their_cost(shape):
    velocity = torch.tensor([3.0, -4.0]).reshape(shape)
    states = NODES.float().reshape(-1, *[1] * (len(shape) + 1)) * velocity
    result = path_statistics(
        lambda x, t, cond=None: velocity.expand_as(x), states.expand(-1, 5, *shape), NODES
    )
    assert result.straightness == pytest.approx(0, abs=1e-10)
    assert result.path_energy == pytest.approx(25, rel=1e-6)
    assert result.transport_cost == pytest.approx(25, rel=1e-6)
    assert result.arc_length == pytest.approx(5, rel=1e-6)


def test_part_of_the_range_compares_velocities():
    nodes = torch.linspace(0.2, 0.7, 11)
    states = 3 * nodes.reshape(-1, 1, 1)
    result = path_statistics(lambda x, t, cond=None: torch.full_like(x, 3.0), states, nodes)
    assert result.straightness == pytest.approx(0, abs=1e-9)
    assert result.path_energy == pytest.approx(9 * 0.5, rel=1e-6)
    assert result.transport_cost == pytest.approx(1.5**2, rel=1e-6)


def test_cost_is_at_least_the_distance_of_the_generated_pairs():
    oracle = GaussianOracle(torch.tensor([1.0, -2.0]), torch.tensor([[2.0, 0.9], [0.9, 0.5]]))
    x_0 = oracle.sample(200, generator=torch.Generator().manual_seed(0)).x_0
    states = exact_states(oracle, x_0, NODES[::4])
    result = path_statistics(oracle, states, NODES[::4])
    w2_squared = exact_w2(states[0], states[-1]).w2_squared
    assert w2_squared <= result.transport_cost <= result.path_energy
    assert result.energy_ratio(w2_squared) >= 1


def test_conditions_and_merging_of_batches():
    oracle = MixtureOracle(
        torch.tensor([0.5, 0.5]), torch.tensor([[3.0, 0.0], [-1.0, 0.0]]), torch.tensor([0.5, 1.0])
    )
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(11, 6, 2, generator=generator, dtype=torch.float64)
    label = torch.tensor([0, 1, 2, 2, 1, 0])
    nodes = NODES[::40]
    whole = path_statistics(oracle, states, nodes, {"label": label})
    parts = [
        path_statistics(oracle, states[:, rows], nodes, {"label": label[rows]})
        for rows in (slice(0, 1), slice(1, 6))
    ]
    merged = PathStatistics.merged(parts)
    assert merged.num_samples == 6
    for name in ("path_energy", "arc_length", "transport_cost", "straightness"):
        assert getattr(merged, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    assert whole.path_energy != path_statistics(oracle, states, nodes).path_energy


def test_bad_input_is_refused():
    def field(x, t, cond=None):
        return x

    states = torch.zeros(3, 2, 2)
    with pytest.raises(InputError, match="n >= 2 nodes"):
        path_statistics(field, states[:1], NODES[:1])
    with pytest.raises(InputError, match=r"got \(2, 2\) for 2"):
        path_statistics(field, torch.zeros(2, 2), NODES[:2])
    with pytest.raises(InputError, match="nodes"):
        path_statistics(field, states[:, :0], NODES[:3])
    with pytest.raises(InputError, match="increase"):
        path_statistics(field, states, NODES[:3].flip(0))
    with pytest.raises(InputError, match="at least one batch"):
        PathStatistics.merged([])
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="w2_squared must be > 0"):
            PathStatistics(1.0, 1.0, 1.0, 1.0, 1).npe(bad)
