import pickle

import pytest
import torch

from flowgen.core import InputError
from flowgen.data import ArraySplit, DataSet, ImageData, Split


def ramp(n, *, width=4):
    """Return images whose pixel is ``16 row + column`` plus the image's number."""
    x = torch.arange(width).repeat(n, 1, 2, 1) + 16 * torch.arange(n).reshape(-1, 1, 1, 1)
    return x.to(torch.uint8)


def test_a_batch_is_the_stacked_samples():
    split = ArraySplit(ramp(5), torch.tensor([4, 3, 2, 1, 0]))
    assert isinstance(split, Split)
    batch = split.__getitems__([3, 0, 3])
    assert batch["label"].tolist() == [1, 4, 1]
    for row, index in enumerate([3, 0, 3]):
        sample = split[index]
        assert sample["label"].ndim == 0
        assert torch.equal(batch["x_1"][row], sample["x_1"])
        assert torch.equal(sample["x_1"], ramp(5)[index])


def test_unlabelled_batches_have_no_label():
    split = ArraySplit(torch.zeros(3, 2))
    assert set(split[0]) == set(split.__getitems__([0, 1])) == {"x_1"}
    assert split.__getitems__([0])["x_1"].shape == (1, 2)


def test_iteration_ends_and_wrong_indices_raise():
    split = ArraySplit(torch.zeros(3, 2))
    assert len(split) == len([split[i] for i in range(3)])
    with pytest.raises(IndexError):
        split[3]


def test_flip_mirrors_whole_rows_about_half_of_the_time():
    x = ramp(1).expand(2000, -1, -1, -1).contiguous()
    out = ArraySplit(x, flip=True).__getitems__(range(2000))["x_1"]
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    kept = (out == x).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    # 2000 fair coins: five standard deviations are 112.
    assert abs(int(mirrored.sum()) - 1000) < 112


def test_flip_depends_on_its_seed_alone_and_survives_pickling():
    x = ramp(1).expand(64, -1, -1, -1).contiguous()

    def draw(split):
        return split.__getitems__(range(64))["x_1"]

    split = ArraySplit(x, flip=True, seed=3)
    copy = pickle.loads(pickle.dumps(split))  # noqa: S301
    first = draw(split)
    assert torch.equal(first, draw(copy))
    assert not torch.equal(first, draw(split))
    split.seed_augmentation(3)
    assert torch.equal(first, draw(split))
    split.seed_augmentation(3, 1)
    assert not torch.equal(first, draw(split))


def test_image_data_describes_itself_and_never_flips_held_out_images():
    data = ImageData(
        "mine",
        ramp(6),
        ramp(40),
        train_labels=torch.zeros(6, dtype=torch.int64),
        test_labels=torch.ones(40, dtype=torch.int64),
        label_names=["a", "b"],
        flip=True,
    )
    assert isinstance(data, DataSet)
    assert (data.name, data.shape, data.num_classes) == ("mine", (1, 2, 4), 2)
    assert data.label_names == ("a", "b")
    assert torch.equal(data.test.__getitems__(range(40))["x_1"], ramp(40))


def test_unlabelled_image_data():
    data = ImageData("mine", ramp(2), ramp(1))
    assert data.num_classes is None
    assert data.label_names is None
    assert set(data.train[0]) == {"x_1"}


LABELS = {
    "train_labels": torch.tensor([0, 1]),
    "test_labels": torch.tensor([1]),
    "label_names": ["a", "b"],
}


@pytest.mark.parametrize(
    ("train", "test", "labels", "message"),
    [
        (ramp(2).float(), ramp(1), {}, "train must be uint8"),
        (ramp(2), ramp(1)[0], {}, "test must be uint8"),
        (ramp(0), ramp(1), {}, "n >= 1"),
        (ramp(2), ramp(1, width=5), {}, "one shape"),
        (ramp(2), ramp(1), {"label_names": ["a", "b"]}, "or none"),
        (ramp(2), ramp(1), {**LABELS, "label_names": ["a"]}, "0..0"),
        (ramp(2), ramp(1), {**LABELS, "train_labels": torch.tensor([0, -1])}, "-1..0"),
        (ramp(2), ramp(1), {**LABELS, "train_labels": torch.tensor([0])}, r"shape \(2,\)"),
        (ramp(2), ramp(1), {**LABELS, "test_labels": torch.tensor([0.0])}, "int64"),
    ],
)
def test_image_data_refuses_what_does_not_fit(train, test, labels, message):
    with pytest.raises(InputError, match=message):
        ImageData("mine", train, test, **labels)
