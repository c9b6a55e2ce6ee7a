import pytest
import torch

from flowgen.core import InputError
from flowgen.data import stratified_split


def test_every_class_gives_its_share_and_nothing_is_lost():
    labels = torch.tensor([0] * 100 + [3] * 50 + [1] * 7)
    train, test = stratified_split(labels, 0.2, seed=5)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(157))
    assert [int((labels[test] == c).sum()) for c in (0, 3, 1)] == [20, 10, 1]


def test_the_seed_alone_decides():
    labels = torch.arange(60) % 3
    first, again, other = (stratified_split(labels, 0.5, seed=s)[1].tolist() for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_classes_are_drawn_independently():
    labels = torch.tensor([0] * 40 + [1] * 40)
    held = stratified_split(labels, 0.5)[1]
    assert held[held < 40].tolist() != (held[held >= 40] - 40).tolist()


def test_small_classes_keep_at_least_one_sample_on_either_side():
    train, test = stratified_split(torch.tensor([0, 0, 1]), 0.01)
    assert len(test) == 1
    assert 2 in train.tolist()
    assert len(stratified_split(torch.tensor([0, 0]), 0.99)[0]) == 1


@pytest.mark.parametrize("holdout", [0.0, 1.0, -0.1, 20.0])
def test_a_holdout_outside_the_open_interval_is_refused(holdout):
    with pytest.raises(InputError, match="holdout"):
        stratified_split(torch.zeros(4, dtype=torch.int64), holdout)


def test_other_bad_input_is_refused():
    with pytest.raises(InputError, match="seed"):
        stratified_split(torch.zeros(4, dtype=torch.int64), 0.5, seed=-1)
    with pytest.raises(InputError, match="nothing can be held out"):
        stratified_split(torch.tensor([0, 1]), 0.5)
