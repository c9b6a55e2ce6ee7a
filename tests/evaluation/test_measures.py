"""The measures on small pipelines, alone and shared between processes."""

import pytest
import torch

from flowgen.core import InputError
from flowgen.data import Digits, EightGaussians, PointData
from flowgen.evaluation import (
    Discrepancy,
    ImageDistance,
    LabelAgreement,
    Neighbours,
    Paths,
    Setting,
    Shards,
    Transport,
    extractor_for,
    figures_text,
    fitting,
    measured,
    numbers,
    protocol,
    rows_text,
)
from flowgen.metrics import exact_w2
from sharing import together
from small import built, image_config, vector_config


def points(n=60):
    return PointData(EightGaussians(), num_train=200, num_test=n)


def digits_config():
    config = image_config(10)
    config["field"]["network"]["shape"] = config["source"]["shape"] = [1, 8, 8]
    config["conditioner"]["names"] = [str(i) for i in range(10)]
    return config


ALL = [
    ImageDistance("pixels"),
    Neighbours("pixels"),
    LabelAgreement(),
    Transport(),
    Discrepancy(),
    Paths(steps=3, num_samples=7),
]


@pytest.mark.parametrize(
    ("config", "data", "names"),
    [
        (vector_config(), points(), {"distance to held-out points", "paths"}),
        (digits_config(), Digits(), {"labels", "fidelity and diversity", "paths"}),
    ],
    ids=["points", "images"],
)
def test_processes_find_what_one_finds(config, data, names):
    pipeline = built(config)

    def figures(shards):
        setting = Setting(pipeline, data, 50, seed=2, chunk=8, shards=shards)
        return measured(fitting(ALL, setting), setting)

    alone = figures(Shards())
    assert names <= set(alone)
    for found in together(figures):
        assert found.keys() == alone.keys()
        for group, values in alone.items():
            assert found[group].keys() == values.keys()
            for name, value in values.items():
                # A pixel may round differently in another chunk; distances take it in.
                expected = pytest.approx(value, rel=1e-3) if isinstance(value, float) else value
                assert found[group][name] == expected, (group, name)


def test_distance_is_that_of_the_first_samples():
    pipeline, data = built(vector_config()), points()
    setting = Setting(pipeline, data, 80, chunk=16)
    found = measured([Transport()], setting)["distance to held-out points"]
    held_out = setting.real(data.test, 60)["x_1"]
    assert found["w2"] == pytest.approx(exact_w2(pipeline.sample(60), held_out).w2, rel=1e-5)
    training = setting.real(data.train, 60)["x_1"]
    assert found["w2_floor"] == pytest.approx(exact_w2(training, held_out).w2, rel=1e-9)
    assert found["points"] == 60


def test_what_does_not_depend_on_the_model_is_computed_once(monkeypatch):
    data = Digits()
    setting = Setting(built(digits_config()), data, 20)
    first = measured([ImageDistance("pixels")], setting)
    monkeypatch.setattr(Setting, "real", None)
    again = measured([ImageDistance("pixels")], setting.of(built(digits_config(), seed=1)))
    group = "distance to held-out images"
    assert again[group]["fd_pixels_floor"] == first[group]["fd_pixels_floor"]
    assert again[group]["fd_pixels"] != first[group]["fd_pixels"]


def test_features_are_computed_once_for_all_measures():
    setting = Setting(built(digits_config()), Digits(), 20)
    drawn = next(setting.draw())
    runs = [measure.begin(setting) for measure in (ImageDistance("pixels"), Neighbours("pixels"))]
    for each in runs:
        each.update(drawn)
    assert len(drawn.memory) == 1


def test_measures_say_why_they_do_not_fit():
    images = Setting(built(digits_config()), Digits(), 20)
    vectors = Setting(built(vector_config()), points(), 20)
    plain = Setting(built(digits_config() | {"conditioner": None}), Digits(), 20)
    assert "images" in Transport().unfit(images)
    assert "images" in Discrepancy().unfit(images)
    assert "not images" in ImageDistance().unfit(vectors)
    assert "not images" in LabelAgreement().unfit(vectors)
    assert "no labels" in LabelAgreement().unfit(plain)
    small = Setting(built(digits_config()), Digits(), 4)
    assert "6 images or more" in Neighbours().unfit(small)
    with pytest.raises(InputError, match="no measure fits"):
        fitting([Transport()], images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Setting(built(vector_config()), points(), 1), "num_samples"),
        (lambda: Setting(built(vector_config()), points(), 9, seed=-1), "seed"),
        (lambda: Setting(built(vector_config()), points(), 9, chunk=0), "chunk"),
        (lambda: Setting(built(vector_config()), points(1), 9), "holds out"),
        (lambda: Transport(1), "max_points"),
        (lambda: Discrepancy(1), "max_points"),
        (lambda: Paths(steps=0), "path_steps"),
        (lambda: Paths(num_samples=0), "path_samples"),
        (lambda: ImageDistance(max_reference=1), "max_reference"),
        (lambda: Neighbours(k_support=0), "k_support"),
        (lambda: Shards(2, 2), "rank"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_shares_follow_each_other():
    shares = [Shards(rank, 3).share(10) for rank in range(3)]
    assert [n for share in shares for n in share] == list(range(10))
    assert {len(share) for share in shares} <= {3, 4}


def test_real_rows_are_the_same_whatever_was_read_before():
    data = Digits()
    data.train.flip = True
    setting = Setting(built(digits_config()), data, 20)
    first = setting.real(data.train, 30)["x_1"]
    data.train.__getitems__([0, 1, 2])
    assert torch.equal(setting.real(data.train, 30)["x_1"], first)
    assert len(first) == 30


def test_protocol_and_tables():
    setting = Setting(built(vector_config()), points(), 20, seed=4)
    about = protocol(setting)
    assert (about["samples"], about["seed"], about["evaluations_per_sample"]) == (20, 4, 8)
    text = figures_text({"group": {"w2": 0.25, "w2_floor": 0.1, "points": 9}})
    assert "0.25" in text
    assert "floor 0.1" in text
    assert "w2_floor" not in text
    lines = rows_text([{"a": 1, "b": 0.5}, {"a": 22}]).splitlines()
    assert [line.split() for line in lines] == [["a", "b"], ["1", "0.5"], ["22"]]
    assert numbers({"g": {"w2": 0.25, "points": 9, "what": "x"}}) == {"w2": 0.25}


def test_extractors_by_name(tmp_path):
    cpu = torch.device("cpu")
    assert extractor_for("pixels", cpu).name == "pixels"
    with pytest.raises(InputError, match="extractor must be one of"):
        extractor_for("vgg", cpu)
    with pytest.raises(InputError, match="needs inception_weights=<file>"):
        extractor_for("inception", cpu)
    with pytest.raises(InputError, match="no such file"):
        extractor_for("inception", cpu, tmp_path / "none.pth")
