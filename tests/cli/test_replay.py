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
    assert "not finite in any row" in out
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


def test_draws_and_precision_are_those_of_the_run(failed, capsys):
    """A batch of an accelerator, where seeds mean other draws, and in another precision."""
    kept = torch.load(failed, weights_only=True)
    kept["state_dict"] = {k: torch.zeros_like(v) for k, v in kept["state_dict"].items()}
    (times,) = kept["draws"]
    assert times.shape == (16,)

    def replayed():
        torch.save(kept, failed)
        assert main(["replay", str(failed)]) == 0
        return capsys.readouterr().out

    kept["pair"]["x_0"] *= 0
    kept["draws"] = [times * 0 + 0.35]
    lines = replayed().splitlines()
    # The model answers 0 and the source is 0: the loss is the mean square of the encoded data.
    row = next(line for line in lines if line.startswith("  0.3-0.4"))
    assert 0.5 < float(row.split()[1]) < 2.0
    assert sum(line.endswith("no rows") for line in lines) == 9

    layer = next(name for name in kept["state_dict"] if name.endswith("network.out.bias"))
    kept["state_dict"][layer] += 1e25  # its square is too large for float32
    kept["precision"] = "bf16-mixed"
    out = replayed()
    assert "in the loss alone" in out
    assert "in 32-true the same batch is not finite either" in out
    kept["precision"] = "64-true"
    kept["pair"] = {name: value.double() for name, value in kept["pair"].items()}
    kept["draws"] = [times.double() * 0 + 0.35]
    assert "everything is finite" in replayed()
    kept["draws"] = [times[1:]]
    torch.save(kept, failed)
    assert main(["replay", str(failed)]) == 2
    assert "other random numbers were kept" in capsys.readouterr().err


def test_data_are_told_from_the_model(failed, capsys):
    kept = torch.load(failed, weights_only=True)
    kept["state_dict"] = {k: torch.zeros_like(v) for k, v in kept["state_dict"].items()}
    kept["pair"]["x_1"][3, 0] = float("nan")
    torch.save(kept, failed)
    assert main(["replay", str(failed)]) == 0
    out = capsys.readouterr().out
    assert "found: the data are not finite in 1 rows of the batch (3)" in out
    assert "take these samples out" in out


def test_slips_take_one_line(failed, capsys, tmp_path):
    (tmp_path / "notes.pt").write_text("no")
    torch.save({"flowgen_replay": 1}, tmp_path / "other.pt")
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
