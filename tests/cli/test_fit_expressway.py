"""``flowgen fit-expressway`` and ``sampler=expressway``."""

import json

import pytest
import torch

from flowgen.cli import main
from flowgen.data import Moons, PointData
from image_places import make_pictures

DIGITS = ["data=digits", "model=mlp_image", "model.width=16", "model.depth=1"]
POINTS = ["data=moons", "data.num_train=200", "data.num_test=50", "model=mlp"]
SHORT = ["data.batch_size=32", "trainer.max_steps=3", "callbacks=quiet", "trainer=cpu"]


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_rest_of_the_way_is_sampled_from_the_file(tmp_path, capsys):
    assert main(["train", *POINTS, *SHORT, "run_dir=run"]) == 0
    capsys.readouterr()
    assert main(["fit-expressway", "checkpoint=run", "start=0.98"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("moons (200 samples), step ")
    words = told[-1].removeprefix("next: flowgen ").split()
    assert main([*words, "num_samples=100", "out=a.pt", "sampler.num_steps=2"]) == 0
    samples = torch.load("a.pt", weights_only=True)["samples"]
    assert main(["sample", "checkpoint=run", "num_samples=1", "--dry-run", *words[2:]]) == 0
    assert "time grid: 0.98, " in capsys.readouterr().out
    # So late a start leaves samples where the training set is, whatever the model has learnt.
    split = PointData(Moons(), num_train=200, num_test=50).train
    train = split.__getitems__(list(range(200)))["x_1"]
    assert float(torch.cdist(samples, train).amin(dim=1).median()) < 0.2
    out = ["num_samples=50", "out=e.json", "measures=[transport]"]
    assert main(["evaluate", *words[1:], *out]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["protocol"]["starts_at"] == 0.98


def test_a_conditional_model_has_an_expressway_for_each_class(capsys):
    assert main(["train", *DIGITS, *SHORT, "run_dir=run"]) == 0
    assert main(["fit-expressway", "checkpoint=run", "start=0.5", "threshold=0.5"]) == 0
    told = capsys.readouterr().out
    assert all(f"class {digit} (" in told for digit in range(10))
    way = ["sampler=expressway", "sampler.start.file=run/expressway.safetensors"]
    assert main(["sample", "checkpoint=run", *way, "label=3", "num_samples=2", "out=a.png"]) == 0


def test_slips_take_one_line(tmp_path, capsys):
    assert main(["train", *POINTS, *SHORT, "run_dir=run"]) == 0
    assert main(["train", *DIGITS, *SHORT, "run_dir=digits"]) == 0
    assert main(["fit-expressway", "checkpoint=run", "threshold=1"]) == 0
    make_pictures(tmp_path)
    capsys.readouterr()
    way = ["sampler=expressway", "sampler.start.file=run/expressway.safetensors"]
    pictures = ["data=image_folder", "data.root=pictures", "data.size=8"]
    for words, part in (
        (["fit-expressway"], "checkpoint"),
        (["fit-expressway", "checkpoint=run", "start=1"], "start must be"),
        (["fit-expressway", "checkpoint=run", "seed=-1"], "seed must be >= 0"),
        (["fit-expressway", "checkpoint=run", "out=a.txt"], "written as .safetensors"),
        (["fit-expressway", "checkpoint=digits", *pictures], "the model makes"),
        (["sample", "checkpoint=digits", *way], "fit it for this checkpoint"),
        (["sample", "checkpoint=run", "sampler=expressway"], "sampler.start.file"),
        (["train", *POINTS, *SHORT, *way], "is fitted to a trained model"),
        (["fit-sampler", "checkpoint=run", *way], "begins at the source"),
    ):
        assert main(words) == 2, words
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1, err
        assert part in err[0], err[0]
