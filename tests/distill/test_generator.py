"""Samples of a student in training are those that it makes when it samples."""

import pytest
import torch

from flow_maps import ExactMap
from flowgen.core import InputError
from flowgen.distill import Generator
from flowgen.integrators import Explicit, Noise, Renoise, Sampler
from flowgen.paths import EDM, AffinePath, Linear, Trig
from known_students import AffineStudent
from oracles import GaussianOracle

PATH = AffinePath(Linear())
NODES = (0.0, 0.3, 0.7)


def empty(n, shape=(1,)):
    return torch.zeros(n, *shape, dtype=torch.float64)


class Spy(AffineStudent):
    """Remembers the states and times it is asked at, and where they have a gradient."""

    def __init__(self):
        super().__init__(0.5, 2.0)
        self.calls = []

    def mean_velocity(self, x, s, t, cond=None):
        found = super().mean_velocity(x, s, t, cond)
        self.calls.append((x, s, found.requires_grad, cond))
        return found


def test_one_node_is_one_jump_from_noise(generator):
    student = Spy()
    x = Generator(PATH)(student, empty(50_000), None, generator=generator)
    # An affine map of standard normal noise.
    assert float(x.mean()) == pytest.approx(2.0, abs=0.5 * 4 / 50_000**0.5)
    assert float(x.std()) == pytest.approx(0.5, rel=0.02)
    [(z, s, _, _)] = student.calls
    torch.testing.assert_close(x, 0.5 * z + 2.0)
    assert torch.equal(s, torch.zeros_like(s))


@pytest.mark.parametrize(("size", "step"), [(9, 0), (9, 1), (9, 5), (10, 2)])
def test_rows_are_shared_out_among_the_nodes(size, step, generator):
    student = Spy()
    Generator(PATH, NODES)(student, empty(size), None, step=step, generator=generator)
    *before, (_, s, graph, _) = student.calls
    assert graph
    assert not any(found for _, _, found, _ in before)
    counts = [int((s == node).sum()) for node in NODES]
    assert sum(counts) == size
    assert max(counts) - min(counts) <= 1
    # No row is simulated further than its last jump needs.
    assert sum(len(x) for x, _, _, _ in before) == counts[1] + 2 * counts[2]


def test_one_row_takes_turns(generator):
    student = Spy()
    for step in range(3):
        Generator(PATH, NODES)(student, empty(1), None, step=step, generator=generator)
    last = [float(s) for _, s, graph, _ in student.calls if graph]
    assert last == pytest.approx(list(NODES))


def test_states_are_those_of_the_sampler(generator):
    """Of a student that is not exact, so that the states differ from noised data."""
    oracle = GaussianOracle(torch.tensor([2.0]), torch.tensor([[0.25]]))
    student = ExactMap(oracle, (0.0, 1.0), error=0.6)
    student.path, student.initial_scale = PATH, 1.0
    n = 60_000
    made = Generator(PATH, NODES)(student, empty(n), None, generator=generator).detach()
    last = made[: n // 3]  # the first rows take all jumps
    sampler = Sampler(Renoise(), Explicit([*NODES, 1.0]), 3)
    x_0 = torch.randn(2_000, 1, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        sampled = sampler.sample(student, x_0, noise=Noise(1, range(2_000)))
    spread = float(sampled.std())
    assert abs(float(last.mean() - sampled.mean())) < 4 * spread / 2_000**0.5
    assert float(last.std()) == pytest.approx(spread, rel=4 / (2 * 2_000) ** 0.5)
    # One jump of it has another law, so the comparison sees the nodes.
    first = made[-n // 3 :]
    assert abs(float(first.mean() - sampled.mean())) > 6 * spread / 2_000**0.5


def test_conditions_stay_with_their_rows(generator):
    student = Spy()
    label = torch.arange(7)
    Generator(PATH, NODES)(student, empty(7), {"label": label}, generator=generator)
    for x, _, _, cond in student.calls:
        assert torch.equal(cond["label"], label[: len(x)])


def test_paths_that_never_reach_pure_noise_start_with_less(generator):
    path = AffinePath(EDM())
    student = Spy()
    student.domain = path.domain
    Generator(path)(student, empty(20_000), None, generator=generator)
    [(x, s, _, _)] = student.calls
    assert float(s[0]) == path.domain[0]
    assert float(x.std()) == pytest.approx(path.initial_scale, rel=0.02)
    assert path.initial_scale < 0.999


def test_noise_is_put_in_as_the_path_says(generator):
    path = AffinePath(Trig())
    student = Spy()
    made = Generator(path, (0.0, 0.5))(student, empty(40_000), None, generator=generator)
    x = student.calls[-1][0][:20_000]
    c = path.coefficients(torch.tensor([0.5]).double())
    data = AffineStudent(0.5, 2.0)
    assert float(x.mean()) == pytest.approx(float(c.alpha * data.shift), rel=0.02)
    expected = (float(c.alpha) * 0.5) ** 2 + float(c.sigma) ** 2
    assert float(x.var()) == pytest.approx(expected, rel=0.04)
    assert made.shape == (40_000, 1)


@pytest.mark.parametrize("nodes", [(), (0.1,), (0.0, 1.0), (0.0, 0.5, 0.5)])
def test_refuses_nodes_that_are_none(nodes):
    with pytest.raises(InputError, match="nodes must rise"):
        Generator(PATH, nodes)
