"""What is seen while training: a bar on a terminal, lines elsewhere, and the time per step soon."""

import re
import sys

import pytest
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from flowgen.core import InputError
from flowgen.training import Progress, progress
from runs import Rows, flow
from small import vector_config


def fit(tmp_path, callback, steps=6, start=0):
    class StartAt(Callback):
        """Stands in for a checkpoint: the trainer has taken ``start`` steps already."""

        def on_train_start(self, trainer, pl_module):
            loop = trainer.fit_loop.epoch_loop.manual_optimization
            loop.optim_step_progress.total.completed = start

    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=[StartAt(), callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    trainer.fit(flow(vector_config()), DataLoader(Rows(False), batch_size=None))


def test_the_bar_reaches_the_end_and_tells_the_time_per_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fit(tmp_path, Progress(measure=2))
    text = capsys.readouterr().err
    assert re.search(r"time per step \d+\.\d ms, about \d+ s to go", text)
    assert "6/6" in text
    assert "loss=" in text


def test_without_a_terminal_there_is_no_flood(tmp_path, capsys):
    fit(tmp_path, Progress(measure=2), steps=30)
    lines = [line for line in capsys.readouterr().err.splitlines() if "step" in line]
    lines = [line for line in lines if not line.startswith("INFO")]
    assert len(lines) == 2
    assert lines[0].startswith("time per step")
    assert re.fullmatch(r"step 30/30, loss \d\.\d{4}, \d+\.\d ms a step, 0 s to go", lines[1])


def test_lines_come_as_often_as_asked(tmp_path, capsys):
    fit(tmp_path, Progress(measure=50, line_every=0.0), steps=4)
    found = re.findall(r"^step (\d)/4", capsys.readouterr().err, re.MULTILINE)
    assert found == ["1", "2", "3", "4"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_resumed_run_says_where_it_goes_on(tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    fit(tmp_path, Progress(), steps=7, start=5)
    text = capsys.readouterr().err
    assert "goes on at step 5 of 7" in text
    assert "7/7" in text


def test_slow_steps_are_told_before_all_of_them_are_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SOON", 0.0)
    fit(tmp_path, Progress(measure=100), steps=3)
    assert capsys.readouterr().err.count("time per step") == 1


def test_a_failure_closes_the_bar_first(tmp_path, capsys):
    class Fails(Progress):
        def on_train_batch_end(self, trainer, *args):
            super().on_train_batch_end(trainer, *args)
            if trainer.global_step == 3:
                raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, Fails())
    assert "step 3/6" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (5400, "1.5 h"),
        (86400, "24.0 h"),
    ],
)
def test_times_are_told_in_the_unit_of_a_person(seconds, text):
    assert progress._duration(seconds) == text


def test_numbers_are_checked():
    with pytest.raises(InputError, match="measure must be >= 1"):
        Progress(measure=0)
    with pytest.raises(InputError, match="line_every must be >= 0"):
        Progress(line_every=-1.0)
