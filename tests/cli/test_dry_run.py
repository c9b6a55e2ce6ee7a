"""A dry run takes full-size steps, says what the run will need, and leaves nothing behind."""

import re

import pytest

from flowgen.cli import dry_run, main

POINTS = ["train", "data=moons", "model=mlp", "model.width=16", "model.depth=2", "run_dir=run"]
IMAGES = ["train", "data=digits", "model.width=16", "model.depth=1", "model.heads=2", "run_dir=run"]


def told(out):
    lines = [re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


@pytest.mark.parametrize("words", [POINTS, IMAGES], ids=["points", "images"])
def test_it_says_what_the_run_needs_and_writes_nothing(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    more = ["trainer.max_steps=3000", "callbacks.checkpoints.keep_every=1000"]
    assert main([*words, *more, "--dry-run"]) == 0
    out = capsys.readouterr().out
    found = told(out)
    assert "3000 steps" in out
    assert found["time per step"].endswith(" ms")
    assert found["picture of 50 samples"].endswith("6 in the run")
    assert found["evaluation of 256 samples"].endswith("none in the run")
    assert "MB of this process" in found["peak memory"] or "GB" in found["peak memory"]
    assert "(5 checkpoints of" in found["disk"]  # two newest, three for good
    assert out.splitlines()[-1] == "dry run: nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_the_whole_batch_and_the_evaluation_of_the_run_are_tried(tmp_path, monkeypatch, capsys):
    from flowgen.training import Evaluate, FlowModule

    monkeypatch.chdir(tmp_path)
    rows, evaluated = [], []
    pair = FlowModule.pair
    monkeypatch.setattr(
        FlowModule,
        "pair",
        lambda self, batch, generator: (
            rows.append(len(batch["x_1"])) or pair(self, batch, generator)
        ),
    )
    rehearse = Evaluate.rehearse
    monkeypatch.setattr(
        Evaluate, "rehearse", lambda self, m: evaluated.append(self) or rehearse(self, m)
    )
    words = ["callbacks=evaluate", "callbacks.evaluate.num_samples=20", "data.batch_size=48"]
    assert main([*POINTS, *words, "trainer.max_steps=2500", "dry_run=true"]) == 0
    # After the rehearsal; a call of the loop takes its batches itself, so none is fetched in vain.
    assert rows[1:] == [48] * (dry_run.STEPS + 1)
    assert [each.num_samples for each in evaluated] == [20]
    found = told(capsys.readouterr().out)
    assert found["evaluation of 20 samples"].endswith("3 in the run")
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_a_checkpoint_is_that_of_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["trainer.max_steps=2", "callbacks=quiet"]
    assert main([*POINTS, *small, "dry_run=true"]) == 0
    number, unit = re.search(r"checkpoints of ([\d.]+) (\w+)", capsys.readouterr().out).groups()
    assert main([*POINTS, *small]) == 0
    size = (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_size
    estimated = float(number) * {"kB": 1e3, "MB": 1e6}[unit]
    assert 0.6 * size < estimated < 1.1 * size  # the file holds its config and random states too


def test_too_little_disk_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    usage = dry_run.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(dry_run.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert main([*POINTS, "trainer.max_steps=2", "dry_run=true"]) == 0
    assert "too little disk: 1e+03 B free" in capsys.readouterr().out.replace("1 kB", "1e+03 B")


def test_a_slow_step_does_not_keep_one_waiting(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "PATIENCE", 0.0)
    assert main([*POINTS, "dry_run=true"]) == 0
    assert told(capsys.readouterr().out)["time per step"].endswith(" ms")


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.6, "1 min 0 s"), (3725, "1 h 2 min"), (0.2, "0 min 0 s")]
)
def test_durations(seconds, text):
    assert dry_run._duration(seconds) == text


def test_sampling_knows_the_flag_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*POINTS, "trainer.max_steps=1", "callbacks=quiet"]) == 0
    capsys.readouterr()
    words = ["sampler=euler", "sampler.num_steps=4"]
    assert main(["sample", "checkpoint=run", *words, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("time grid: 0, 0.25, 0.5, 0.75, 1\n")
    assert not (tmp_path / "run" / "samples.png").exists()
