"""``flowgen fit-coupling``: a file that training takes, and refuses where it does not belong."""

import pytest

import flowgen
from flowgen.cli import main
from flowgen.couplings import Potentials
from image_places import make_pictures

POINTS = ["data=moons", "data.num_train=200", "data.num_test=50"]
DIGITS = ["data=digits", "model=mlp_image", "model.width=16", "model.depth=1"]
SHORT = ["data.batch_size=32", "trainer.max_steps=3", "callbacks=quiet", "trainer=cpu"]


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_fit_is_told_written_and_trained_with(tmp_path, capsys):
    assert main(["fit-coupling", *POINTS]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("moons (200 samples), step ")
    found = Potentials.load(tmp_path / "coupling_moons.safetensors")
    assert found.potential.shape == (200,)
    assert not found.by_label
    assert found.chi2 < 0.05
    words = told[-1].removeprefix("next: flowgen ").split()
    assert main([*words, *POINTS[1:], *SHORT, "model=mlp", "run_dir=run"]) == 0
    rows = [line.split(",") for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()]
    row = dict(zip(rows[0], rows[-1], strict=True))
    assert float(row["coupling/saved"]) > 0.1
    # The score is known after this coupling, so stochastic samplers may sample.
    out = ["sampler=euler_maruyama", "num_samples=4", "out=a.pt", "sampler.num_steps=3"]
    assert main(["sample", "checkpoint=run", *out]) == 0


def test_classes_are_fitted_apart_and_labels_stay(tmp_path, capsys):
    assert main(["fit-coupling", "data=digits", "threshold=0.5"]) == 0
    told = capsys.readouterr().out
    assert all(f"class {digit} (" in told for digit in range(10))
    assert Potentials.load("coupling_digits.safetensors").by_label
    file = "coupling.file=coupling_digits.safetensors"
    assert main(["train", *DIGITS, *SHORT, "coupling=semidiscrete", file, "run_dir=run"]) == 0
    assert len(flowgen.load("run", device="cpu").sample(2)) == 2


def test_a_source_of_data_is_fitted_in_the_units_of_the_model():
    cells = ["data=cells", "data.types=[Dendritic]", "source=cells", "source.data.holdout=0.5"]
    assert main(["fit-coupling", *cells, "threshold=50", "out=cells.safetensors"]) == 0
    file = ["coupling=semidiscrete", "coupling.file=cells.safetensors"]
    small = ["model=mlp", "model.width=16", "model.depth=1", "data.batch_size=8", *SHORT[1:]]
    assert main(["train", *cells, *file, *small, "run_dir=run"]) == 0


def test_slips_take_one_line(tmp_path, capsys):
    assert main(["fit-coupling", "data=digits", "by_label=false", "threshold=0.5"]) == 0
    (tmp_path / "other.safetensors").write_bytes(b"no")
    # Of 200 points one noise would be enough for this threshold; two are the least.
    assert main(["fit-coupling", *POINTS, "threshold=200", "out=moons.safetensors"]) == 0
    make_pictures(tmp_path)
    pictures = ["data=image_folder", "data.root=pictures", "data.size=8"]
    capsys.readouterr()
    fitted = ["coupling=semidiscrete", "coupling.file=coupling_digits.safetensors"]
    train = ["train", *DIGITS, *SHORT, "run_dir=run"]
    moons = ["train", *POINTS, *SHORT, "model=mlp", "run_dir=run", fitted[0]]
    moons.append("coupling.file=moons.safetensors")
    for words, part in (
        (["fit-coupling", *POINTS, "by_label=true"], "by_label=true needs labels"),
        (["fit-coupling", *POINTS, "out=a.txt"], "written as .safetensors"),
        (["fit-coupling", *POINTS, "seed=-1"], "seed must be >= 0"),
        (["fit-coupling", *POINTS, "threshold=0"], "threshold must be > 0"),
        (["fit-coupling", *POINTS, "threshold=inf"], "threshold must be > 0 and finite"),
        (["fit-coupling", "data=digits", "source=moons"], "got (2,) and (1, 8, 8)"),
        (["fit-coupling", *POINTS, "device=moon"], "device 'moon'"),
        (["fit-coupling", *pictures, "data.flip=true"], "augmented at random"),
        ([*train, *fitted], "makes the noise depend"),
        ([*train, *fitted, "conditional=false", "data.seed=5"], "another training set"),
        ([*train, *fitted, "conditional=false", "source.std=3"], "fitted to another source"),
        ([*moons, "data.standardize=true"], "or to it in other units"),
        ([*train, fitted[0], "coupling.file=none.safetensors"], "no file at"),
        ([*train, fitted[0], "coupling.file=other.safetensors"], "holds no potentials"),
    ):
        assert main(words) == 2, words
        err = capsys.readouterr().err.strip().splitlines()
        assert len(err) == 1, err
        assert part in err[0], err[0]
    assert not (tmp_path / "run").exists()
    assert main(["fit-coupling", *POINTS, "max_steps=1", "threshold=0.001"]) == 3
    assert "did not come below threshold=0.001" in capsys.readouterr().err
    assert not (tmp_path / "coupling_moons.safetensors").exists()
