"""A run that cannot go on: one line, exit code 3, and a batch that shows what broke."""

from pathlib import Path

import pytest
import torch

from flowgen.cli import main

TRAIN = ["train", "data=moons", "data.batch_size=16", "model.width=16", "model.depth=2"]
TRAIN += ["callbacks=quiet", "run_dir=run", "trainer.accelerator=cpu", "max_skipped=3"]


@pytest.fixture
def failed(tmp_path, monkeypatch, capsys):
    """A run whose learning rate leaves nothing finite after its first step."""
    monkeypatch.chdir(tmp_path)
    words = ["optimizer.lr=1e38", "optimizer.weight_decay=0", "trainer.max_steps=40"]
    assert main([*TRAIN, *words, "model=mlp"]) == 3
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("training failed: 3 steps in a row had a loss or gradient")
    (file,) = Path("run/nonfinite").glob("step_*.pt")
    assert f"flowgen replay {file}" in err
    return file


def test_the_batch_is_replayed(failed, capsys):
    assert main(["replay", str(failed)]) == 0
    out = capsys.readouterr().out
    assert "16 samples, precision 32-true" in out
    assert "not finite in some rows" in out
    assert "found: " in out
    assert "everything is finite" not in out
    assert "a smaller optimizer.lr" in out


def test_a_sound_batch_is_told_so(failed, capsys):
    kept = torch.load(failed, weights_only=True)
    kept["state_dict"] = {k: torch.zeros_like(v) for k, v in kept["state_dict"].items()}
    torch.save(kept, failed)
    assert main(["replay", str(failed)]) == 0
    out = capsys.readouterr().out
    assert "found: everything is finite here" in out
    # A model that answers 0 has the mean square of the pairs' velocity as its loss.
    assert "0.0-0.1  " in out


def test_slips_take_one_line(failed, capsys, tmp_path):
    (tmp_path / "notes.pt").write_text("no")
    torch.save({"flowgen_replay": 2}, tmp_path / "other.pt")
    for words, part in (
        ([], "replay takes one file"),
        (["nothing.pt"], "no file at"),
        (["notes.pt"], "no batch kept by a run"),
        (["other.pt"], "no batch kept by a run"),
    ):
        assert main(["replay", *words]) == 2
        err = capsys.readouterr().err
        assert part in err
        assert len(err.splitlines()) == 1
    lonely = tmp_path / "elsewhere" / "nonfinite" / failed.name
    lonely.parent.mkdir(parents=True)
    failed.rename(lonely)
    assert main(["replay", str(lonely)]) == 2
    assert "leave the file in its run folder" in capsys.readouterr().err
    assert main(["replay", "--help"]) == 0
    assert "nonfinite/step_0000120.pt" in capsys.readouterr().out
