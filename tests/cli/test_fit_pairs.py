"""``flowgen fit-pairs``: a file that is gone on with, trained with, and refused elsewhere."""

import pytest

import flowgen
from flowgen.cli import main
from flowgen.couplings import StoredPairs

POINTS = ["data=moons", "data.num_train=200", "data.num_test=50"]
CELLS = ["data=cells", "data.types=[Dendritic]", "source=cells"]
SMALL = ["rows=128", "rounds=2"]
DIGITS = ["data=digits", "model=mlp_image", "model.width=16", "model.depth=1"]
SHORT = ["data.batch_size=32", "trainer.max_steps=3", "callbacks=quiet", "trainer=cpu"]


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_pairs_are_told_written_gone_on_with_and_trained_with(tmp_path, capsys):
    assert main(["fit-pairs", *POINTS, *SMALL]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("round 1 of 2: 128 noises, ")
    found = StoredPairs.load("pairs_moons.safetensors").index.clone()
    assert found.shape == (2, 128)
    assert main(["fit-pairs", *POINTS, "rows=128", "rounds=3"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "pairs_moons.safetensors has 2 rounds: going on from there"
    assert told[1].startswith("round 3 of 3")
    more = StoredPairs.load("pairs_moons.safetensors").index
    assert more.shape == (3, 128)
    assert (more[:2] == found).all()
    words = told[-1].removeprefix("next: flowgen ").split()
    assert main([*words, *POINTS[1:], *SHORT, "model=mlp", "run_dir=run"]) == 0
    rows = [line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    row = dict(zip(rows[0], rows[-1], strict=True))
    assert float(row["coupling/saved"]) > 0.05
    assert len(flowgen.load("run", device="cpu").sample(2)) == 2
    # The score is unknown after entropic pairs.
    capsys.readouterr()
    assert main(["sample", "checkpoint=run", "sampler=euler_maruyama", "out=a.pt"]) == 2
    assert "score" in capsys.readouterr().err


def test_classes_are_paired_apart_and_labels_stay():
    assert main(["fit-pairs", "data=digits", "rows=256", "rounds=1"]) == 0
    assert StoredPairs.load("pairs_digits.safetensors").by_label
    file = "coupling.file=pairs_digits.safetensors"
    assert main(["train", *DIGITS, *SHORT, "coupling=stored", file, "run_dir=run"]) == 0
    assert len(flowgen.load("run", device="cpu").sample(2)) == 2


def test_slips_take_one_line(tmp_path, capsys):
    assert main(["fit-pairs", "data=digits", "by_label=false", *SMALL]) == 0
    assert main(["fit-pairs", *POINTS, "rows=64", "rounds=1", "out=moons.safetensors"]) == 0
    capsys.readouterr()
    fitted = ["coupling=stored", "coupling.file=pairs_digits.safetensors"]
    train = ["train", *DIGITS, *SHORT, "run_dir=run"]
    moons = ["train", *POINTS, *SHORT, "model=mlp", "run_dir=run", fitted[0]]
    moons.append("coupling.file=moons.safetensors")
    for words, part in (
        (["fit-pairs", *POINTS, "by_label=true"], "by_label=true needs labels"),
        (["fit-pairs", *POINTS, "out=a.txt"], "written as .safetensors"),
        (["fit-pairs", *POINTS, "rows=100"], "multiple of 64"),
        (["fit-pairs", "data=digits", "source=moons", "out=b.safetensors"], "got (2,) and (1, 8,"),
        (["fit-pairs", *CELLS, "data.seed=1", *SMALL], "normalised each in its own way"),
        (["fit-pairs", *POINTS, "rounds=0"], "rounds must be >= 1"),
        (["fit-pairs", *POINTS, "epsilon=0"], "epsilon must be > 0"),
        (["fit-pairs", "data=digits", *SMALL], "made with another data set"),
        ([*train, *fitted], "makes the noise depend"),
        ([*train, *fitted, "conditional=false", "data.seed=5"], "another training set"),
        ([*train, *fitted, "conditional=false", "source.std=2"], "another source"),
        ([*moons, "data.standardize=true"], "or for it in other units"),
        ([*train, fitted[0], "coupling.file=none.safetensors"], "no file at"),
    ):
        assert main(words) == 2, words
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1, err
        assert part in err[0], err[0]
    assert not (tmp_path / "run").exists()
    few = ["max_sweeps=1", "epsilon=0.001", "out=few.safetensors"]
    assert main(["fit-pairs", *POINTS, *SMALL, *few]) == 3
    assert "raise max_sweeps" in capsys.readouterr().err
    assert not (tmp_path / "few.safetensors").exists()
