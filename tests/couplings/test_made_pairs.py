"""Pairs of a folder: rows stay together, shards are one set, and what does not fit is refused."""

import json
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from flowgen.core import Coupling, InputError, Pair, per_sample
from flowgen.couplings import MadePairs, PairFolder, PairShards
from flowgen.couplings.pair_folder import INDEX
from flowgen.data import Gaussian, Identity, Pixels, Standardize

SOURCE = Gaussian((2,))
NAMES = ("ant", "bee", "cow")


@contextmanager
def plainly(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path


def written(folder, num_pairs=10, shard_size=4, counts=None, **changes):
    """Pairs whose data are twice the source, in shards of 4."""
    about = {
        "settings": {"seed": 3},
        "codec": Identity().to_config(),
        "label_names": NAMES,
        "num_classes": 3,
    }
    made = PairFolder(folder, num_pairs=num_pairs, shard_size=shard_size, **{**about, **changes})
    made.write(plainly)
    while len(made) < (num_pairs if counts is None else counts):
        numbers = made.numbers(len(made.counts))
        x_0 = per_sample(lambda g: SOURCE.sample(1, generator=g), 3, numbers)
        tensors = {"x_0": x_0, "x_1": 2 * x_0}
        if made.num_classes is not None:
            tensors["label"] = torch.tensor(numbers) % 3
        made = made.with_shard(tensors, plainly)
    return made


def batch(n, label=True):
    cond = {"label": torch.zeros(n, dtype=torch.int64)} if label else None
    return Pair(torch.zeros(n, 2), torch.ones(n, 2), cond)


def test_rows_come_by_number_from_all_shards(tmp_path):
    made = written(tmp_path)
    assert made.counts == (4, 4, 2)
    assert made.complete
    numbers = torch.tensor([9, 0, 3, 4, 0, 8])
    rows = PairShards(PairFolder.read(tmp_path)).rows(numbers)
    expected = per_sample(lambda g: SOURCE.sample(1, generator=g), 3, numbers.tolist())
    assert torch.equal(rows["x_0"], expected)
    assert torch.equal(rows["x_1"], 2 * expected)
    assert torch.equal(rows["label"], numbers % 3)


def test_index_says_what_was_written(tmp_path):
    made = written(tmp_path)
    assert PairFolder.read(tmp_path) == made
    assert PairFolder.read(str(tmp_path)).settings == {"seed": 3}


def test_a_batch_is_drawn_from_all_pairs_and_its_rows_stay_together(tmp_path, generator):
    written(tmp_path)
    coupling = MadePairs(tmp_path, SOURCE, Identity(), 3, NAMES)
    assert isinstance(coupling, Coupling)
    assert coupling.of_flow
    made = coupling(batch(2000), generator=generator)
    assert torch.equal(made.x_1, 2 * made.x_0)
    all_0 = per_sample(lambda g: SOURCE.sample(1, generator=g), 3, range(10))
    number = (made.x_0[:, None] == all_0).all(dim=2).float().argmax(dim=1)
    assert torch.equal(made.cond["label"], number % 3)
    # 200 of each are expected, with a standard deviation of 13.
    assert float((number.bincount(minlength=10) - 200).abs().max()) < 60
    again = coupling(batch(2000), generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.x_0, made.x_0)
    cost = float((made.x_1 - made.x_0).square().mean())
    assert float(made.stats["coupling/cost"]) == pytest.approx(cost)
    assert coupling(batch(1), generator=generator).x_0.shape == (1, 2)


def test_labels_are_left_out_where_the_run_has_none(tmp_path, generator):
    written(tmp_path)
    made = MadePairs(tmp_path, SOURCE, Identity())(batch(4, label=False), generator=generator)
    assert made.cond is None


def test_dtype_is_that_of_the_batch(tmp_path, generator):
    written(tmp_path)
    pair = Pair(torch.zeros(3, 2).double(), torch.ones(3, 2).double())
    made = MadePairs(tmp_path, SOURCE, Identity())(pair, generator=generator)
    assert made.x_0.dtype == made.x_1.dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((SOURCE, Pixels(), 3, NAMES), "encoded otherwise"),
        ((SOURCE, Standardize(0.0, 2.0), 3, NAMES), "encoded otherwise"),
        ((SOURCE, Identity(), 4, (*NAMES, "dog")), "has 3 labels"),
        ((SOURCE, Identity(), 3, ("cow", "bee", "ant")), "ant, bee, cow"),
        ((Gaussian((2,), std=2.0), Identity(), 3, NAMES), "another source"),
        ((Gaussian((3,)), Identity(), 3, NAMES), "another source"),
    ],
)
def test_pairs_of_another_kind_are_refused(arguments, part, tmp_path):
    written(tmp_path)
    with pytest.raises(InputError, match=part):
        MadePairs(tmp_path, *arguments)


def test_pairs_without_labels_fit_no_run_with_labels(tmp_path):
    written(tmp_path, num_classes=None, label_names=None)
    with pytest.raises(InputError, match="without labels"):
        MadePairs(tmp_path, SOURCE, Identity(), 3, NAMES)
    assert "label" not in PairShards(PairFolder.read(tmp_path)).rows(torch.tensor([1]))


def test_numbers_do_for_names(tmp_path):
    written(tmp_path, label_names=None)
    assert MadePairs(tmp_path, SOURCE, Identity(), 3, NAMES).labelled


def test_unfinished_missing_and_damaged_folders_are_told(tmp_path):
    with pytest.raises(InputError, match="make pairs by flowgen make-pairs"):
        MadePairs(tmp_path / "none", SOURCE, Identity())
    written(tmp_path, counts=8)
    with pytest.raises(InputError, match="holds 8 of 10 pairs"):
        MadePairs(tmp_path, SOURCE, Identity())
    made = written(tmp_path)
    made.file(1).write_bytes(b"no tensors")
    with pytest.raises(InputError, match="missing or damaged"):
        PairShards(made)
    assert made.sound().counts == (4,)
    made.file(1).write_bytes(made.file(0).read_bytes())
    with pytest.raises(InputError, match="does not hold the pairs"):
        PairShards(made)
    made.file(0).unlink()
    assert made.sound().counts == ()
    content = json.loads((tmp_path / INDEX).read_text())
    for change in (
        {"flowgen_made_pairs": 2},
        {"counts": None},
        {"shard_size": "many"},
        {"shard_size": 0},
    ):
        (tmp_path / INDEX).write_text(json.dumps({**content, **change}))
        with pytest.raises(InputError, match=INDEX):
            PairFolder.read(tmp_path)
    (tmp_path / INDEX).write_text("[")
    with pytest.raises(InputError, match="is damaged"):
        PairFolder.read(tmp_path)


def test_a_last_shard_that_became_too_short_is_not_sound(tmp_path):
    made = written(tmp_path)
    assert made.sound() == made
    assert replace(made, num_pairs=12).sound().counts == (4, 4)


def test_batches_with_weights_or_other_conditions_are_refused(tmp_path):
    written(tmp_path)
    coupling = MadePairs(tmp_path, SOURCE, Identity())
    with pytest.raises(InputError, match="weights"):
        coupling(Pair(torch.zeros(2, 2), torch.ones(2, 2), weight=torch.ones(2)))
    with pytest.raises(InputError, match="no other condition"):
        coupling(Pair(torch.zeros(2, 2), torch.ones(2, 2), {"text": torch.zeros(2)}))
