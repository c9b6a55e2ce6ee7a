"""A data set as the source: rows of training and of sampling, determinism, digests, bad input."""

import logging

import pytest
import torch

from flowgen.core import InputError, Source, generator_for
from flowgen.data import DataSource, ImageData, PointData, Standardize
from flowgen.data.codecs import Pixels


def images(n=20, held_out=6, flip=False):
    """Images that are told apart by their first value, and from their mirror."""
    x = torch.arange(n + held_out, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 2, 2)
    x[..., 1] = 255
    return ImageData("counted", x[:n], x[n:], flip=flip)


def numbers(x):
    """Which images these are, mirrored or not."""
    return Pixels().decode(x).amin(dim=(1, 2, 3)).tolist()


@pytest.fixture
def source():
    return DataSource([1, 2, 2], images())


def test_training_draws_each_training_row_once_before_any_again(source):
    assert isinstance(source, Source)
    first = numbers(source.sample(20, generator=generator_for(1)))
    assert sorted(first) == list(range(20))
    assert first != sorted(first)
    more = numbers(source.sample(45, generator=generator_for(2)))
    assert {more.count(i) for i in range(20)} == {2, 3}


def test_draws_follow_from_the_generator_alone_augmentation_included():
    one, other = (DataSource([1, 2, 2], images(flip=True)) for _ in range(2))
    one.sample(7, generator=generator_for(9))
    expected = one.sample(12, generator=generator_for(1, 5))
    assert torch.equal(other.sample(12, generator=generator_for(1, 5)), expected)
    assert not torch.equal(other.sample(12, generator=generator_for(1, 6)), expected)
    mirrored = Pixels().decode(expected)[:, 0, 0, 0] == 255
    assert 0 < int(mirrored.sum()) < 12


def test_samples_start_from_held_out_rows_in_their_order(source):
    assert source.count == 6
    assert numbers(source.rows([0, 1, 5, 6])) == [20, 21, 25, 20]
    assert source.stored([2])[0, 0, 0, 0] == 22


def test_rows_of_training_do_not_depend_on_how_they_are_split():
    source = DataSource([1, 2, 2], images(flip=True)).of_training(3)
    whole = source.rows(range(30))
    parts = torch.cat([source.rows(range(7)), source.rows(range(7, 30))])
    assert torch.equal(whole, parts)
    assert numbers(whole) == [*range(20), *range(10)]
    assert not torch.equal(whole[:10], whole[20:])  # mirrored by their number


def test_given_rows_are_started_from_and_training_stays(source):
    given = source.given(torch.full((2, 1, 2, 2), 77, dtype=torch.uint8), Pixels())
    assert numbers(given.rows(range(3))) == [77, 77, 77]
    assert given.count == 2
    assert source.count == 6
    assert max(numbers(given.sample(20, generator=generator_for(0)))) == 19


def test_rows_are_encoded_as_the_data_are(generator):
    class Shifted:
        def sample(self, n, *, generator=None, device=None):
            return torch.randn(n, 2, generator=generator) + 5

    data = PointData(Shifted(), 50, 10)
    source = DataSource([2])
    source.use(data, Standardize([5.0, 5.0], 2.0))
    raw = data.test.__getitems__([3])["x_1"]
    torch.testing.assert_close(source.rows([3]), (raw - 5) / 2)
    assert abs(float(source.sample(50, generator=generator).mean())) < 0.3


def test_another_data_set_is_told_by_its_digest(source, caplog):
    same = DataSource([1, 2, 2], digest=source.digest)
    with caplog.at_level(logging.WARNING):
        same.use(images(), Pixels())
        assert not caplog.records
        DataSource([1, 2, 2], digest=source.digest).use(images(21), Pixels())
    assert "other rows now" in caplog.text
    source.load_state_dict(same.state_dict())
    with pytest.raises(InputError, match="cannot go on with it"):
        DataSource([1, 2, 2], images(19)).load_state_dict(source.state_dict())


def test_bad_input():
    with pytest.raises(InputError, match="must have one shape"):
        DataSource([3, 2, 2], images())
    for ask in (lambda s: s.rows([0]), lambda s: s.sample(2), lambda s: s.count):
        with pytest.raises(InputError, match="not there yet"):
            ask(DataSource([1, 2, 2]))
