import pytest
import torch

from flowgen.core import InputError
from flowgen.data import DataSet, EightGaussians, Gaussian, Identity, Moons, PointData, Standardize


def everything(split):
    return split.__getitems__(range(len(split)))["x_1"]


def test_points_describe_themselves():
    data = PointData(Moons(), num_train=50, num_test=20)
    assert isinstance(data, DataSet)
    assert (data.name, data.shape, data.num_classes) == ("Moons", (2,), None)
    assert (len(data.train), len(data.test)) == (50, 20)
    assert data.codec == Identity()
    assert set(data.train[0]) == {"x_1"}
    assert PointData(Moons(), name="two moons").name == "two moons"


def test_held_out_points_come_from_another_stream():
    data = PointData(EightGaussians(), num_train=100, num_test=100)
    same = (everything(data.train)[:, None] == everything(data.test)).all(2)
    assert not bool(same.any())
    bigger = PointData(EightGaussians(), num_train=200, num_test=100)
    assert torch.equal(everything(bigger.test), everything(data.test))


def test_the_seed_alone_decides():
    first, again, other = (everything(PointData(Moons(), 30, 5, seed=s).train) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_standardize_uses_the_training_mean_and_one_std():
    data = PointData(Moons(shift_x=5.0), num_train=500, num_test=10, standardize=True)
    assert isinstance(data.codec, Standardize)
    z = data.codec.encode(everything(data.train)).double()
    assert z.mean(0).abs().max() < 1e-5
    assert abs(float(z.square().mean()) - 1.0) < 1e-5
    # One std for both: the ratio of the two variances is that of the data.
    ratio = everything(data.train).double().var(0)
    torch.testing.assert_close(z.var(0) / z.var(0)[0], ratio / ratio[0], rtol=1e-5, atol=0)
    assert isinstance(data.codec.std, float)
    torch.testing.assert_close(data.codec.decode(z.float()), everything(data.train))


def test_images_can_be_drawn_from_a_distribution_too():
    data = PointData(Gaussian([3, 4, 4]), num_train=6, num_test=2, standardize=True)
    assert data.shape == (3, 4, 4)
    assert data.codec.encode(everything(data.train)).shape == (6, 3, 4, 4)


class Broken:
    def __init__(self, value):
        self.value = value

    def sample(self, n, *, generator=None, device=None):
        return self.value[:n]


@pytest.mark.parametrize(
    "value",
    [torch.zeros(9), torch.zeros(9, 2, dtype=torch.int64), torch.full((9, 2), float("nan"))],
)
def test_distributions_that_give_no_finite_float_rows_are_refused(value):
    with pytest.raises(InputError, match="Broken: samples must be finite"):
        PointData(Broken(value), num_train=9, num_test=9)


@pytest.mark.parametrize("bad", [{"num_train": 1}, {"num_test": 0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        PointData(Moons(), **bad)
