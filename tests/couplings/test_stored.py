"""Pairs of a file: those of the plans, with the noise drawn again from its seed."""

from typing import Any

import pytest
import torch

from flowgen.core import DataCoupling, InputError, Pair
from flowgen.couplings import (
    PairCosts,
    PairRounds,
    RelativeEpsilon,
    Sinkhorn,
    Stored,
    StoredPairs,
    optimal_permutation,
)
from flowgen.data import Gaussian

DIGEST = "of some set"
SOURCE = Gaussian((3,))


def rounds_of(x_1, label=None, rows=128, seed=4, epsilon=0.1, **more):
    return PairRounds(x_1, label, SOURCE, rows, epsilon, seed, Sinkhorn(1e-3), **more)


@pytest.fixture
def data(generator):
    x = torch.randn(100, 3, generator=generator) * torch.tensor([2.0, 1.0, 0.5]) + 1
    return x, torch.arange(100) % 3


def written(tmp_path, rounds, numbers=(0, 1)):
    made = [rounds(number) for number in numbers]
    file = tmp_path / "pairs.safetensors"
    by_label = rounds.label is not None
    first = rounds.noise(0)[0]
    index = torch.stack([each.index for each in made])
    StoredPairs(index.int(), rounds.seed, 0.1, by_label, DIGEST, "some", first).save(file)
    return file, index


def test_a_round_is_a_draw_from_the_entropic_plan(data):
    """Each sample as often as the plan says, and nearer than random by what the plan says."""
    x, _ = data
    rounds = rounds_of(x, rows=12_800)
    made = rounds(0)
    assert made.converged
    counts = made.index.bincount(minlength=100)
    # Columns are exact; 128 draws each scatter by less than their root.
    assert float(((counts - 128).square() / 128).sum()) < 99 + 5 * (2 * 99) ** 0.5
    noise = rounds.noise(0)
    cost = float((x[made.index] - noise).square().mean())
    assert cost == pytest.approx(made.cost, rel=0.02)
    costs = PairCosts(noise, x)
    plan = Sinkhorn(1e-5)(costs, RelativeEpsilon(0.1)(costs.std))
    assert made.cost == pytest.approx(plan.cost / 3, rel=1e-3)
    random = float((x.repeat(128, 1) - noise).square().mean())
    assert made.random == pytest.approx(random, rel=0.02)
    assert made.entropy == pytest.approx(plan.entropy, abs=1e-3)


def test_a_small_epsilon_comes_near_to_the_assignment(generator):
    x = torch.randn(128, 3, generator=generator) + 1
    rounds = rounds_of(x, epsilon=2e-3)
    rounds.solver = Sinkhorn(1e-2, 50_000)
    noise = rounds.noise(0)
    best = float((noise[optimal_permutation(noise, x)] - x).square().mean())
    assert best < rounds(0).cost < 1.05 * best


def test_a_round_depends_on_its_number_and_hardly_on_the_rounds_before(data):
    x, _ = data
    one, other = rounds_of(x), rounds_of(x)
    first, second = one(0), one(1)
    assert not torch.equal(first.index, second.index)
    assert torch.equal(other(0).index, first.index)
    cold = rounds_of(x)(1)
    assert second.sweeps < cold.sweeps
    assert float((cold.index == second.index).double().mean()) > 0.95


def test_larger_sets_are_gone_through_part_by_part(generator):
    x = torch.arange(300.0)[:, None].expand(300, 3) / 300
    rounds = rounds_of(x, rows=64)
    seen = [rounds(number).index for number in range(4)]
    assert all(len(part.unique()) <= 64 for part in seen)
    # Four rounds see four disjoint parts of the order.
    parts = [rounds._columns(number) for number in range(4)]
    assert len(torch.cat(parts).unique()) == 256
    assert not torch.equal(rounds._columns(4), parts[0])


def test_pairs_of_a_file_are_those_that_were_made(tmp_path, data, generator):
    x, label = data
    rounds = rounds_of(x)
    file, index = written(tmp_path, rounds)
    coupling = Stored(file, SOURCE)
    assert isinstance(coupling, DataCoupling)
    assert not coupling.score_valid
    assert not coupling.condition_safe
    coupling.use(x, label, DIGEST)
    made = {
        tuple(noise.tolist()): int(row)
        for number in (0, 1)
        for noise, row in zip(rounds.noise(number), index[number], strict=True)
    }
    given = Pair(torch.randn(150, 3, generator=generator), x[:75].repeat(2, 1))
    pair = coupling(given, generator=generator)
    rows = [made[tuple(noise.tolist())] for noise in pair.x_0]
    assert torch.equal(pair.x_1, x[rows])
    assert pair.cond is None
    # Three of the four blocks, none of them twice.
    assert len({tuple(noise.tolist()) for noise in pair.x_0}) == 150
    assert 0 < float(pair.stats["coupling/saved"]) < 1


def test_draws_follow_the_generator(tmp_path, data):
    file, _ = written(tmp_path, rounds_of(data[0]))
    coupling = Stored(file, SOURCE)
    coupling.use(data[0], data[1], DIGEST)
    given = Pair(torch.zeros(64, 3), torch.zeros(64, 3))
    seeds = (1, 1, 2, 3, 4, 5)
    drawn = [coupling(given, generator=torch.Generator().manual_seed(s)).x_0 for s in seeds]
    assert torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(drawn[0], other) for other in drawn[2:])


def test_inside_classes_noise_knows_nothing_of_the_label(tmp_path, data):
    x, label = data
    rounds = rounds_of(x + 4 * label[:, None], label, rows=6400)
    file, index = written(tmp_path, rounds, (0,))
    found = label[index[0]]
    assert found.bincount().tolist() == pytest.approx([2176, 2112, 2112], abs=64)
    means = torch.stack([rounds.noise(0)[found == value].mean(dim=0) for value in range(3)])
    # Six deviations of a mean of 2100 normal numbers.
    assert float(means.abs().max()) < 0.13
    coupling = Stored(file, SOURCE)
    assert coupling.condition_safe
    coupling.use(x, label, DIGEST)
    given = Pair(torch.zeros(64, 3), torch.zeros(64, 3), {"label": torch.zeros(64).long()})
    pair = coupling(given, generator=torch.Generator().manual_seed(0))
    assert pair.cond is not None
    rows = [int((x == row).all(1).nonzero()) for row in pair.x_1]
    assert torch.equal(pair.cond["label"], label[rows])
    assert len(pair.cond["label"].unique()) == 3


def test_a_batch_larger_than_the_file_takes_every_block_equally_often(tmp_path, data):
    file, _ = written(tmp_path, rounds_of(data[0]), (0,))
    coupling = Stored(file, SOURCE)
    coupling.use(data[0], data[1], DIGEST)
    given = Pair(torch.zeros(256, 3), torch.zeros(256, 3))
    x_0 = coupling(given, generator=torch.Generator().manual_seed(0)).x_0
    assert x_0.unique(dim=0, return_counts=True)[1].tolist() == 128 * [2]


def test_what_does_not_belong_is_refused(tmp_path, data):
    x, label = data
    file, _ = written(tmp_path, rounds_of(x))
    coupling = Stored(file, SOURCE)
    pair = Pair(torch.zeros(4, 3), torch.zeros(4, 3))
    with pytest.raises(InputError, match=r"call use\("):
        coupling(pair)
    with pytest.raises(InputError, match="another training set"):
        coupling.use(x, label, "other")
    coupling.use(x, label, DIGEST)
    with pytest.raises(InputError, match="weigh them after"):
        coupling(Pair(pair.x_0, pair.x_1, weight=torch.ones(4)))
    with pytest.raises(InputError, match="no other condition, got \\['text'\\]"):
        coupling(Pair(pair.x_0, pair.x_1, {"text": torch.ones(4, 2)}))
    with pytest.raises(InputError, match="another source"):
        Stored(file, Gaussian((4,)))
    coupling.check_source(SOURCE)
    with pytest.raises(InputError, match="in its own normalisation"):
        coupling.check_source(Gaussian((3,), std=2.0))
    with pytest.raises(InputError, match="no file at"):
        StoredPairs.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="damaged"):
        StoredPairs.load(tmp_path / "bad.safetensors")
    bad: list[tuple[dict[str, Any], str]] = [
        ({"rows": 100}, "multiple of 64"),
        ({"seed": -1}, "seed must be"),
        ({"epsilon": 0.0}, "epsilon must be > 0"),
        ({"max_elements": 0}, "max_elements must be"),
    ]
    for settings, part in bad:
        with pytest.raises(InputError, match=part):
            rounds_of(x, **settings)
