"""The report of a run that trains."""

import logging

import pytest
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from flowgen.core import InputError
from flowgen.training import Report, SampleGrid
from flowgen.training import report as module
from run_folders import Page
from runs import Rows, flow
from small import image_config


def fit(tmp_path, *callbacks, steps=4):
    (tmp_path / "config.yaml").write_text("name: small\ntrainer:\n  max_steps: 4\n")
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    trainer.fit(flow(image_config()), DataLoader(Rows(True), batch_size=None))


class Watch(Callback):
    """Remembers at which steps the report was newly written."""

    def __init__(self, path):
        self.path, self.steps, self.seen = path, [], None

    def on_train_batch_end(self, trainer, *args):
        now = self.path.stat().st_ino if self.path.exists() else None
        if now != self.seen:
            self.steps.append(trainer.global_step)
        self.seen = now


def test_it_is_there_from_the_start_and_shows_the_last_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARE", 1e9)
    path = tmp_path / "report.html"
    watch = Watch(path)
    report = Report(tmp_path, every_n_steps=2)
    # The report stands before the part that draws: its last page is written after all the same.
    fit(tmp_path, report, watch, SampleGrid(tmp_path, every_n_steps=3, num_samples=4), steps=4)
    assert watch.steps == [1, 2, 4]
    page = Page(path.read_text(encoding="utf-8"))
    assert [image["data-step"] for image in page.all("img")] == ["3", "4"]
    assert "step 4 of 4" in page.text


def test_reports_that_cost_too_much_are_left_out_but_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARE", -1.0)
    watch = Watch(tmp_path / "report.html")
    fit(tmp_path, Report(tmp_path, every_n_steps=1), watch)
    assert watch.steps == [1]
    first = watch.seen
    assert (tmp_path / "report.html").stat().st_ino != first


def test_a_report_that_fails_costs_one_warning_and_never_the_run(tmp_path, monkeypatch, caplog):
    def fail(folder):
        raise OSError("no space left\non device")

    monkeypatch.setattr(module, "write_report", fail)
    monkeypatch.setattr(module, "SHARE", 1e9)
    watch = Watch(tmp_path / "config.yaml")
    with caplog.at_level(logging.WARNING, logger="flowgen"):
        fit(tmp_path, Report(tmp_path, every_n_steps=1), watch)
    assert watch.steps == [1]  # the run went through
    told = [record.message for record in caplog.records if "report.html" in record.message]
    assert told == ["report.html was not written (no space left on device); training goes on"]


def test_a_run_that_breaks_off_leaves_a_report(tmp_path):
    class Break(Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 2:
                (tmp_path / "report.html").unlink()
                raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, Report(tmp_path, every_n_steps=100), Break())
    assert (tmp_path / "report.html").is_file()


def test_the_last_page_says_how_the_run_ended(tmp_path):
    report = Report(tmp_path)
    fit(tmp_path, report)
    (tmp_path / "run.json").write_text('{"status": "interrupted"}')
    report.finish()
    assert "Interrupted" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_the_number_of_steps_is_checked(tmp_path):
    with pytest.raises(InputError, match=r"callbacks\.report\.every_n_steps must be >= 1, got 0"):
        Report(tmp_path, every_n_steps=0)
