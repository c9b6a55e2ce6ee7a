import random
from itertools import islice

import numpy as np
import pytest
import torch

from flowgen.core import InputError
from flowgen.data import ArraySplit, Digits, EpochSampler, loader, stream


def numbered(n, *, flip=False):
    """Return a split whose sample ``i`` tells ``i``, and by its sign whether it was mirrored."""
    x = torch.stack([torch.arange(n), -1 - torch.arange(n)], dim=1).float()
    return ArraySplit(x, torch.arange(n), flip=flip)


def labels(batches):
    return [batch["label"].tolist() for batch in batches]


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = EpochSampler(50, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert sorted(order(0, 0)) == list(range(50))
    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4
    assert list(EpochSampler(4, shuffle=False)) == [0, 1, 2, 3]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("size", "world_size"), [(12, 3), (13, 3), (14, 3), (2, 3), (7, 1)])
def test_ranks_share_out_the_epoch(size, world_size, shuffle):
    def parts(drop_last):
        options = {"shuffle": shuffle, "world_size": world_size, "drop_last": drop_last}
        return [list(EpochSampler(size, rank=rank, **options)) for rank in range(world_size)]

    dropped = parts(drop_last=True)
    assert {len(part) for part in dropped} == {size // world_size}
    flat = sum(dropped, [])
    assert len(set(flat)) == len(flat)
    padded = parts(drop_last=False)
    assert {len(part) for part in padded} == {-(-size // world_size)}
    assert set(sum(padded, [])) == set(range(size))
    lengths = [len(EpochSampler(size, world_size=world_size, drop_last=d)) for d in (True, False)]
    assert lengths == [len(dropped[0]), len(padded[0])]


def test_two_ranks_together_see_what_one_process_sees():
    alone = list(EpochSampler(10, seed=4))
    first, second = (list(EpochSampler(10, seed=4, rank=r, world_size=2)) for r in (0, 1))
    assert [i for both in zip(first, second, strict=True) for i in both] == alone


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_follow_the_epoch_and_are_collated(num_workers):
    def run():
        batches = loader(numbered(11), batch_size=4, num_workers=num_workers, seed=2)
        epochs = []
        for epoch in (0, 1):
            batches.batch_sampler.set_epoch(epoch)
            epochs.append(labels(batches))
        return epochs

    epochs = run()
    assert epochs == run()
    assert epochs[0] != epochs[1]
    for epoch, seen in enumerate(epochs):
        sampler = EpochSampler(11, seed=2, drop_last=True)
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert seen == [order[:4], order[4:8]]


def test_rows_of_a_batch_stay_aligned():
    for batch in loader(numbered(10), batch_size=5):
        assert torch.equal(batch["x_1"][:, 0].long(), batch["label"])


def test_without_dropping_the_last_batch_is_short_and_every_sample_comes_once():
    batches = labels(loader(numbered(10), batch_size=4, shuffle=False, drop_last=False))
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def mirrored(num_workers, *, seed=0, rank=0):
    batches = loader(
        numbered(64, flip=True),
        batch_size=16,
        shuffle=False,
        num_workers=num_workers,
        seed=seed,
        rank=rank,
        world_size=rank + 1,
        drop_last=False,
    )
    return [(batch["x_1"][:, 0] < 0).tolist() for batch in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_augmentation_repeats_itself_for_one_seed(num_workers):
    first = mirrored(num_workers)
    torch.manual_seed(99)
    assert mirrored(num_workers) == first
    assert mirrored(num_workers, seed=1) != first


def test_batches_and_ranks_augment_independently():
    first, second, *_ = mirrored(0)
    assert first != second
    assert mirrored(0, rank=1)[0] != mirrored(0)[0]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_number_of_workers_changes_nothing(num_workers):
    assert mirrored(num_workers) == mirrored(0)


class Careless(ArraySplit):
    """A data set of a user's that draws from every global generator."""

    def __getitems__(self, indices):
        batch = super().__getitems__(indices)
        draws = [random.random(), np.random.rand(), float(torch.rand(()))]  # noqa: NPY002
        return batch | {"draws": torch.tensor(draws, dtype=torch.float64)}


def head(batches, n):
    return [
        (
            batch["label"].tolist(),
            batch["x_1"].tolist(),
            batch.get("draws", torch.zeros(0)).tolist(),
        )
        for batch in islice(batches, n)
    ]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 2, 3, 7])
def test_a_stream_from_batch_k_is_the_stream_without_its_first_k(start, num_workers):
    data = Careless(numbered(11).x, torch.arange(11), flip=True)
    options = {"batch_size": 4, "seed": 3}
    whole = head(stream(data, **options), start + 5)
    assert head(stream(data, start=start, num_workers=num_workers, **options), 5) == whole[start:]
    draws = [tuple(entry[2]) for entry in whole]
    assert len(set(draws)) == len(draws)


def test_a_stream_is_one_epoch_after_the_other():
    batches = loader(numbered(11), batch_size=4, seed=2)
    epochs = []
    for epoch in range(3):
        batches.batch_sampler.set_epoch(epoch)
        epochs += labels(batches)
    endless = stream(numbered(11), batch_size=4, seed=2)
    assert labels(islice(endless, 6)) == epochs
    assert len(batches) == 2
    with pytest.raises(TypeError, match="endless"):
        len(endless)


def test_two_ranks_of_a_stream_share_out_each_global_batch():
    alone = labels(islice(stream(numbered(24), batch_size=8, seed=1), 7))
    parts = [
        labels(islice(stream(numbered(24), batch_size=4, seed=1, rank=r, world_size=2), 7))
        for r in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in alone]


def test_fetching_leaves_the_global_generators_alone():
    """Python's own is left out: beartype draws from it to choose what it checks."""

    def draw(before):
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        before()
        return float(torch.rand(())), np.random.rand()  # noqa: NPY002

    data = Careless(numbered(11).x, torch.arange(11))
    assert draw(lambda: head(stream(data, batch_size=4), 3)) == draw(lambda: None)


def test_a_batch_larger_than_the_set_is_refused_in_one_line():
    data = Digits()
    with pytest.raises(InputError, match=r"2048 is larger than the 1438 samples") as error:
        loader(data.train, batch_size=2048)
    assert "at most 1438" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"719 for each of 2 processes"):
        loader(data.train, batch_size=1000, world_size=2)
    assert len(list(loader(data.test, batch_size=2048, drop_last=False))) == 1


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"seed": -1}, "seed"),
        ({"rank": 1}, "rank"),
        ({"rank": -1}, "rank"),
        ({"world_size": 0}, "rank"),
    ],
)
def test_bad_numbers_are_named(bad, name):
    for make in (loader, stream):
        with pytest.raises(InputError, match=name):
            make(numbered(4), **{"batch_size": 2, **bad})


def test_a_stream_starts_at_a_batch_that_exists():
    with pytest.raises(InputError, match="start must be >= 0, got -1"):
        stream(numbered(4), batch_size=2, start=-1)


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="size"):
        loader(numbered(0), batch_size=1)
