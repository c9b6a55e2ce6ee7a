"""Jumps of a flow map: exact however far, and only where the map leads."""

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError
from flowgen.integrators import (
    Counted,
    Euler,
    Explicit,
    Jump,
    Noise,
    Renoise,
    Sampler,
    Uniform,
)
from flowgen.models import MLP, FlowMapField, SegmentField, last_edge, next_edge
from flowgen.paths import AffinePath, Data, Linear, Trig, Velocity
from oracles import GaussianOracle

MEAN = torch.tensor([2.0, -1.0])
COV = torch.tensor([[0.25, 0.1], [0.1, 0.5]])
EDGES = (0.0, 0.3, 0.7, 1.0)


@pytest.fixture
def oracle():
    return GaussianOracle(MEAN, COV)


@pytest.fixture
def x_0(generator):
    return torch.randn(64, 2, generator=generator, dtype=torch.float64)


def ends(oracle, x_0):
    return oracle.flow(x_0, torch.zeros(len(x_0)), torch.ones(len(x_0)))


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_exact_map_arrives_in_any_number_of_jumps(oracle, x_0, num_steps):
    sampler = Sampler(Jump(), Uniform(), num_steps)
    student = ExactMap(oracle)
    x_1 = sampler.sample(student, x_0)
    torch.testing.assert_close(x_1, ends(oracle, x_0), rtol=0, atol=1e-12)
    torch.testing.assert_close(sampler.encode(student, x_1), x_0, rtol=0, atol=1e-12)


def test_segments_are_jumped_from_edge_to_edge(oracle, x_0):
    """Phased consistency's sampler with exact segments is the exact flow; Euler does the same."""
    for stepper in (Jump(), Euler()):
        sampler = Sampler(stepper, Explicit(EDGES), 3)
        x_1 = sampler.sample(ExactMap(oracle, EDGES), x_0)
        torch.testing.assert_close(x_1, ends(oracle, x_0), rtol=0, atol=1e-12)


def test_a_map_leads_to_its_edges_alone(oracle, x_0):
    with pytest.raises(InputError, match="leads from 0 to 0.3, not to 0.5"):
        Sampler(Jump(), Uniform(), 2).sample(ExactMap(oracle, EDGES), x_0)
    with pytest.raises(InputError, match="flow map"):
        Sampler(Jump(), Uniform(), 2).sample(oracle, x_0)
    with pytest.raises(InputError, match="leads from 1 nowhere"):
        Sampler(Jump(), Uniform(), 1).encode(ExactMap(oracle, (0.0, 1.0)), x_0)


class OnPath(ExactMap):
    """An exact map that carries its path, as fields do."""

    path = AffinePath(Linear())


def test_renoised_samples_have_the_law_of_the_data(oracle):
    """With an exact map every number of steps gives samples of the data, newly drawn ones."""
    n = 20_000
    generator = torch.Generator().manual_seed(4)
    x_0 = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    student = OnPath(oracle, (0.0, 1.0))
    found = []
    for num_steps in (1, 3):
        sampler = Sampler(Renoise(), Uniform(), num_steps)
        x_1 = sampler.sample(student, x_0, noise=Noise(0, range(n)))
        found.append(x_1)
        error = 5 / n**0.5
        assert (x_1.mean(dim=0) - MEAN).abs().max() < error
        assert (torch.cov(x_1.T) - COV).abs().max() < 2 * error
    torch.testing.assert_close(found[0], ends(oracle, x_0), rtol=0, atol=1e-12)
    assert (found[0] - found[1]).abs().mean() > 0.1


def test_each_jump_is_counted_once(oracle, x_0):
    for sampler, student in (
        (Sampler(Jump(), Uniform(), 4), ExactMap(oracle)),
        (Sampler(Renoise(), Uniform(), 4), OnPath(oracle, (0.0, 1.0))),
    ):
        counted = Counted(student)
        sampler.sample(counted, x_0, noise=Noise(0, range(len(x_0))))
        assert counted.nfe == 4


@pytest.mark.parametrize("path", [Linear(), Trig()])
def test_fields_are_the_maps_they_say(path, generator):
    """A network told no interval gives one mean velocity; a new one starts as the velocity."""
    torch.manual_seed(0)
    network = MLP((2,), width=16, interval=True)
    for parameter in network.out.parameters():
        torch.nn.init.normal_(parameter)
    field = FlowMapField(network, AffinePath(path), Velocity())
    x = torch.randn(8, 2, generator=generator)
    s, t = torch.rand(2, 8, generator=generator)
    assert torch.equal(field.mean_velocity(x, s, t), field(x, s))
    torch.nn.init.normal_(network.condition.embeddings["interval"].out.weight)
    assert not torch.equal(field.mean_velocity(x, s, t), field(x, s))
    torch.testing.assert_close(field.mean_velocity(x, s, s), field(x, s))
    single = SegmentField(MLP((2,), width=16), AffinePath(path), Velocity(), edges=EDGES)
    assert torch.equal(single.mean_velocity(x, s, t), single(x, s))


def test_a_map_in_a_prediction_that_is_singular_at_the_data(generator):
    """Its one jump is the prediction of the data, but for the margin that is kept."""
    torch.manual_seed(0)
    network = MLP((2,), width=16)
    torch.nn.init.normal_(network.out.weight)
    x_0 = torch.randn(8, 2, generator=generator)
    field = SegmentField(network, AffinePath(Linear()), Data(), t_eps=1e-3)
    x_1 = Sampler(Jump(), Uniform(), 1).sample(field, x_0)
    expected = network(x_0, torch.zeros(8))
    torch.testing.assert_close(x_1, 0.999 * expected + 0.001 * x_0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("edges", [[0, 1, 0.5], [0.1, 1], [0, 0.9], [0], [0, float("nan"), 1]])
def test_edges_must_rise_from_source_to_data(edges):
    with pytest.raises(InputError, match="edges must rise"):
        SegmentField(MLP((2,), width=8), AffinePath(Linear()), Velocity(), edges=edges)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_time_on_an_edge_belongs_to_the_segment_it_begins(dtype):
    s = torch.tensor([0.0, 0.29, 0.3, 0.5, 0.7, 0.99, 1.0], dtype=dtype)
    edges = (0.0, 0.3, 0.7, 1.0)
    ends = torch.tensor([0.3, 0.3, 0.7, 0.7, 1.0, 1.0, 1.0], dtype=dtype)
    begins = torch.tensor([0.0, 0.0, 0.3, 0.3, 0.7, 0.7, 0.7], dtype=dtype)
    assert torch.equal(next_edge(edges, s), ends)
    assert torch.equal(last_edge(edges, s), begins)


@pytest.mark.parametrize("part", [0, 1])
def test_a_segment_map_is_the_identity_at_its_end(part, generator):
    """``f_k(x, t_{k+1}) = x`` for any network, and something else before."""
    torch.manual_seed(0)
    network = MLP((2,), width=16)
    torch.nn.init.normal_(network.out.weight)
    edges = (0.0, 0.5, 1.0)
    field = SegmentField(network.double(), AffinePath(Linear()), Velocity(), edges=edges)
    x = torch.randn(32, 2, generator=generator, dtype=torch.float64)
    end = torch.full((32,), edges[part + 1], dtype=torch.float64)
    moved = []
    for before in (1e-13, 0.3):
        s = end - before
        moved.append((end - s)[:, None] * field.mean_velocity(x, s, end))
    assert float(moved[0].detach().abs().max()) < 1e-11
    assert float(moved[1].detach().abs().min(dim=0).values.max()) > 1e-5
    # At the edge itself the next segment begins.
    if part == 0:
        one = torch.ones_like(end)
        assert float(field.mean_velocity(x, end, one).detach().abs().max()) > 1e-3
