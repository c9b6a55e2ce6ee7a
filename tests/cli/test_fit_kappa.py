"""``flowgen fit-kappa``: the table, the plot, and a strength that training takes."""

import json

import pytest
from PIL import Image

from flowgen.cli import main

SMALL = ["data=moons", "data.num_train=400", "data.num_test=50", "num_samples=300"]
RANGE = ["kappa_min=0.1", "kappa_max=20", "num_kappas=10"]


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_prints_the_override_and_writes_table_and_plot(tmp_path, capsys):
    assert main(["fit-kappa", *SMALL, *RANGE]) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "kappa_moons.json").read_text())
    rows = found["rows"]
    assert len(rows) == 10
    assert rows[0]["kappa"] == pytest.approx(0.1)
    assert rows[-1]["kappa"] == pytest.approx(20)
    assert f"coupling=weighted coupling.kappa={found['kappa']:.3g}" in told
    steep = [row["slope"] for row in rows if row["kappa"] >= found["kappa"]]
    before = [row["slope"] for row in rows if row["kappa"] < found["kappa"]]
    assert max(steep) < 0.05 <= before[-1]
    assert found["protocol"]["num_data"] == found["protocol"]["num_source"] == 300
    with Image.open(tmp_path / "kappa_moons.png") as picture:
        assert picture.size[0] > 600
    override = next(line for line in told.splitlines() if line.startswith("elbow: "))
    train = ["train", *SMALL[:3], "model=mlp", "data.batch_size=32", "trainer.max_steps=2"]
    assert main([*train, "callbacks=quiet", *override.split()[1:]]) == 0


def test_images_are_compared_as_the_model_sees_them(capsys):
    words = ["data=digits", "num_samples=100", "num_kappas=3", "out=folder/a.json"]
    assert main(["fit_kappa", *words]) == 0
    with open("folder/a.json") as file:
        found = json.load(file)
    assert found["protocol"]["dimensions"] == 64
    # Stored values up to 16 would be far from the noise, and near 0 in the model's range.
    assert found["rows"][-1]["ess"] > 0.99


def test_no_elbow_is_said(capsys):
    assert main(["fit-kappa", *SMALL, "kappa_max=0.1", "num_kappas=4"]) == 0
    assert "no elbow" in capsys.readouterr().out
    with open("kappa_moons.json") as file:
        assert json.load(file)["kappa"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_kappas=1"], "num_kappas must be >= 2"),
        (["num_samples=3"], "num_samples must be >= 4"),
        (["seed=-1"], "seed must be >= 0"),
        (["kappa_min=3"], "0 < kappa_min < kappa_max"),
        (["slope=0"], "slope must be > 0"),
        (["out=a.csv"], "written as .json"),
        (["data=digits", "source=moons"], "one shape"),
    ],
)
def test_refusals_are_one_line(words, message, tmp_path, capsys):
    assert main(["fit-kappa", *([] if "data=digits" in words else SMALL), *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []
