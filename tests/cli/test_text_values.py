"""A name that looks like a number stays a name."""

import pytest

from flowgen.cli import main
from flowgen.cli.text_values import as_text

POINTS = ["train", "data=moons", "model=mlp", "model.width=8", "model.depth=1", "trainer=cpu"]
POINTS += ["callbacks=quiet", "trainer.max_steps=2"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("run_dir=2026", "run_dir='2026'"),
        ("name=1e3", "name='1e3'"),
        ("out=0012", "out='0012'"),
        ("resume=true", "resume='true'"),
        ("name=1,two,3.5", "name='1',two,'3.5'"),
        ("coupling.file=7", "coupling.file='7'"),
        ("+name=5", "+name='5'"),
        ("run_dir=null", "run_dir=null"),
        ("run_dir=runs/7", "run_dir=runs/7"),
        ("resume=auto", "resume=auto"),
        ("seed=7", "seed=7"),
        ("data.noise=0.1", "data.noise=0.1"),
        ("--multirun", "--multirun"),
    ],
)
def test_names_of_digits_are_quoted(word, expected):
    assert as_text([word]) == [expected]


def test_runs_and_files_may_be_called_by_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*POINTS, "run_dir=2026", "name=8"]) == 0
    assert main(["train", "resume=2026", "trainer.max_steps=3"]) == 0
    assert main(["sample", "checkpoint=2026", "num_samples=4", "out=3"]) == 2
    assert "out=3: only images go into a folder" in capsys.readouterr().err
    assert main([*POINTS, "name=0012"]) == 0
    assert len(list((tmp_path / "runs" / "0012").iterdir())) == 1
