import pytest
import torch

from flowgen.core import InputError
from flowgen.models import ConditionEmbedding, LabelConditioner, LabelEmbedding

NAMES = ("bag", "boot", "coat")


def test_labels_by_number_name_list_and_tensor():
    conditioner = LabelConditioner(3, names=NAMES)
    assert conditioner.encode(2, 3)["label"].tolist() == [2, 2, 2]
    assert conditioner.encode("boot", 2)["label"].tolist() == [1, 1]
    assert conditioner.encode(["coat", 0], 5)["label"].tolist() == [2, 0, 2, 0, 2]
    assert conditioner.encode(torch.tensor([1, 2]), 2)["label"].tolist() == [1, 2]
    assert conditioner.encode(torch.tensor(1), 2)["label"].tolist() == [1, 1]
    assert conditioner.encode(0, 1)["label"].dtype == torch.int64


@pytest.mark.parametrize("bad", [3, -1, True, "shoe", [0, 3], torch.tensor([7])])
def test_labels_out_of_range_name_the_choices(bad):
    with pytest.raises(
        InputError, match=r"does not exist: .*labels are 0 to 2, or bag, boot, coat"
    ):
        LabelConditioner(3, names=NAMES).encode(bad, 2)


def test_near_names_are_suggested():
    with pytest.raises(InputError, match="did you mean 'boot'"):
        LabelConditioner(3, names=NAMES).encode("boots", 2)
    with pytest.raises(InputError, match=r"label '1' does not exist: labels are 0 to 2$"):
        LabelConditioner(3).encode("1", 2)


@pytest.mark.parametrize("labels", [[], [0, 1, 2]])
def test_number_of_labels_must_fit(labels):
    with pytest.raises(InputError, match=r"\d labels for 2 samples"):
        LabelConditioner(3).encode(labels, 2)


def test_null_and_cycle():
    conditioner = LabelConditioner(3)
    assert conditioner.null(2)["label"].tolist() == [3, 3]
    assert conditioner.cycle(range(4, 9))["label"].tolist() == [1, 2, 0, 1, 2]
    assert conditioner.cycle([])["label"].dtype == torch.int64


def test_dropout_acts_on_each_sample_alone(generator):
    n, rate = 20_000, 0.3
    conditioner = LabelConditioner(5, dropout=rate)
    label = torch.arange(n) % 5
    other = torch.randn(n)
    kept = conditioner.drop({"label": label, "other": other}, generator=generator)
    dropped = kept["label"] == 5
    assert torch.equal(kept["label"][~dropped], label[~dropped])
    assert torch.equal(kept["other"], other)
    # Five standard errors of a Bernoulli mean, and of the correlation of neighbours.
    assert abs(float(dropped.double().mean()) - rate) < 5 * (rate * (1 - rate) / n) ** 0.5
    centred = dropped.double() - rate
    correlation = (centred[1:] * centred[:-1]).mean() / (rate * (1 - rate))
    assert abs(float(correlation)) < 5 / n**0.5
    for value in range(5):
        share = float(dropped[label == value].double().mean())
        assert abs(share - rate) < 5 * (rate * (1 - rate) * 5 / n) ** 0.5


def test_dropout_follows_its_generator_only():
    conditioner = LabelConditioner(5, dropout=0.5)
    cond = conditioner.cycle(range(64))
    state = torch.get_rng_state()
    first, second = (
        conditioner.drop(cond, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first["label"], second["label"])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(LabelConditioner(5, dropout=0.0).drop(cond)["label"], cond["label"])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"num_classes": 0}, "num_classes must be"),
        ({"num_classes": 2, "dropout": 1.0}, "dropout must lie"),
        ({"num_classes": 2, "dropout": -0.1}, "dropout must lie"),
        ({"num_classes": 2, "names": ["a"]}, "names must be 2 different ones"),
        ({"num_classes": 2, "names": ["a", "a"]}, "names must be 2 different ones"),
    ],
)
def test_arguments_are_checked(arguments, rule):
    with pytest.raises(InputError, match=rule):
        LabelConditioner(**arguments)


def test_the_null_label_has_a_row_of_its_own():
    embedding = LabelEmbedding(3, 4)
    rows = embedding(torch.tensor([0, 3]))
    assert torch.equal(rows[1], embedding.table.weight[3])
    assert embedding.table.num_embeddings == 4


def test_conditions_add_up():
    """c(t, label) - c(t, other label) is the difference of two rows, at every time."""
    torch.manual_seed(0)
    embedding = ConditionEmbedding(3, 8).double()
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    first, second = (embedding(t, {"label": torch.tensor([k, k])}) for k in (0, 2))
    weight = embedding.embeddings["label"].table.weight
    torch.testing.assert_close(second - first, (weight[2] - weight[0]).expand(2, 8))


def test_a_number_means_the_name_where_all_names_are_numbers():
    conditioner = LabelConditioner(3, names=["1", "10", "2"])
    assert conditioner.encode([1, 2, "10"], 3)["label"].tolist() == [0, 2, 1]
    assert conditioner.encode(torch.tensor([2, 0]), 2)["label"].tolist() == [2, 0]
    with pytest.raises(InputError, match="label 0 does not exist: labels are 1, 10, 2"):
        conditioner.encode(0, 1)
    with pytest.raises(InputError, match="label 3 does not exist"):
        conditioner.encode(torch.tensor([3]), 1)
