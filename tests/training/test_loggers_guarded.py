"""No fault of a service stops a run, and all its faults together cost no more than the patience."""

import threading
import time
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only

from flowgen.core import InputError
from flowgen.training.loggers import (
    Guarded,
    MetricsFile,
    Service,
    log_figures,
    resume_at,
    show_picture,
    show_table,
    worker,
)


class Fake:
    """A service that notes what it is told, and fails or hangs in the calls it is told to."""

    title = "Fake"

    def __init__(self, fails=(), hangs=(), other_way=False, cut_helps=True):
        self.fails, self.hangs = set(fails), set(hangs)
        self.other_way = other_way
        self.cut_helps = cut_helps
        self.calls = []
        self.released = threading.Event()

    def _do(self, what, *details):
        if what in self.hangs:
            self.released.wait(60)
            raise ConnectionError("cut off")
        if what in self.fails:
            raise ConnectionError(f"no {what}\nsecond line")
        self.calls.append((what, *details))

    def open(self):
        self._do("open")

    def config(self, config):
        self._do("config", config)

    def metrics(self, values, step):
        self._do("metrics", values, step)

    def picture(self, name, path, step):
        self._do("picture", name, path, step)

    def table(self, name, rows, step):
        self._do("table", name, rows, step)

    def resume(self, step):
        self._do("resume", step)

    def close(self, status):
        self._do("close", status)

    def rescue(self, reason):
        self.calls.append(("rescue", reason))
        if self.other_way:
            self.fails, self.hangs = set(), set()
        return self.other_way

    def cut(self):
        self.calls.append(("cut",))
        if self.cut_helps:
            self.released.set()


def everything(logger):
    logger.log_hyperparams({"seed": 0})
    resume_at([logger], 0)
    log_figures([logger], {"loss": 1}, 1)
    show_picture([logger], "samples", Path("a.png"), 1)
    show_table([logger], "evaluation", {"w2": {"value": 0.5}}, 1)
    logger.log_metrics({"loss": 2.0})
    logger.finalize("success")


ALL = [
    ("open",),
    ("config", {"seed": 0}),
    ("resume", 0),
    ("metrics", {"loss": 1.0}, 1),
    ("picture", "samples", Path("a.png"), 1),
    ("table", "evaluation", {"w2": {"value": 0.5}}, 1),
    ("metrics", {"loss": 2.0}, 0),
    ("close", "success"),
]


def test_calls_arrive_in_order(tmp_path):
    service = Fake()
    assert isinstance(service, Service)
    logger = Guarded(service, tmp_path)
    everything(logger)
    assert service.calls == ALL
    assert (logger.name, logger.version, logger.save_dir) == ("Fake", "", str(tmp_path))
    assert logger.failure is None
    logger.finalize("success")
    assert service.calls == ALL


def test_a_logger_opens_again_after_it_was_closed(tmp_path):
    service = Fake()
    logger = Guarded(service, tmp_path)
    for _ in range(2):
        logger.log_metrics({"loss": 1}, 1)
        logger.finalize("success")
    once = [("open",), ("metrics", {"loss": 1.0}, 1), ("close", "success")]
    assert service.calls == once + once


def test_other_processes_log_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    service = Fake()
    everything(Guarded(service, tmp_path))
    assert service.calls == []
    everything_of = MetricsFile(tmp_path / "run")
    everything_of.log_metrics({"loss": 1}, 1)
    everything_of.resume_at(0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["open", "config", "metrics", "picture", "table", "close"])
def test_the_first_failure_costs_one_line_and_the_rest_is_left_out(tmp_path, caplog, what):
    service = Fake(fails=[what])
    logger = Guarded(service, tmp_path)
    everything(logger)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"Fake failed (no {what} second line): metrics.csv goes on without it"]
    done = [call for call in service.calls if call[0] not in ("rescue", "cut")]
    assert done == ALL[: [call[0] for call in ALL].index(what)]


@pytest.mark.parametrize("what", ["open", "config", "metrics", "close"])
def test_another_way_takes_up_where_the_first_failed(tmp_path, caplog, what):
    service = Fake(fails=[what], other_way=True)
    everything(Guarded(service, tmp_path))
    assert [call for call in service.calls if call[0] != "rescue"] == ALL
    assert caplog.records == []


def test_another_way_that_fails_as_well_is_told_in_the_same_line(tmp_path, caplog):
    service = Fake(fails=["metrics"])
    service.rescue = lambda reason: service._do("metrics")
    everything(Guarded(service, tmp_path))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "(no metrics second line; then no metrics second line)" in line


def test_an_exit_of_the_client_is_no_exit_of_the_run(tmp_path, caplog):
    service = Fake()
    service.metrics = lambda values, step: exit(3)
    everything(Guarded(service, tmp_path))
    assert "Fake failed (3)" in caplog.text


@pytest.mark.parametrize("what", ["open", "metrics", "close"])
def test_a_service_that_hangs_is_cut_off_and_takes_the_other_way(tmp_path, caplog, what):
    service = Fake(hangs=[what], other_way=True)
    start = time.monotonic()
    everything(Guarded(service, tmp_path, patience=0.6))
    assert time.monotonic() - start < 5.0
    assert [call for call in service.calls if call[0] not in ("rescue", "cut")] == ALL
    assert caplog.records == []


@pytest.mark.parametrize("what", ["open", "metrics", "close"])
def test_a_service_that_cannot_be_cut_costs_the_patience_and_one_line(tmp_path, caplog, what):
    service = Fake(hangs=[what], cut_helps=False)
    start = time.monotonic()
    everything(Guarded(service, tmp_path, patience=0.6))
    assert 0.5 < time.monotonic() - start < 5.0
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("Fake failed (no answer for 1 s)")
    service.released.set()


def test_all_waits_together_are_limited():
    released = threading.Event()
    work = worker.Worker("Fake", lambda reason: False, 0.5)
    work.submit(lambda: released.wait(60) and None)
    assert not work.wait(0.3)
    assert 0.0 < work.left <= 0.2
    assert not work.wait(10.0)
    assert work.left == 0.0
    released.set()


def test_training_does_not_wait_for_a_slow_service(tmp_path):
    service = Fake(hangs=["metrics"], other_way=True)
    logger = Guarded(service, tmp_path, patience=2.0)
    logger.log_hyperparams({})
    start = time.monotonic()
    for step in range(1000):
        logger.log_metrics({"loss": step}, step)
    assert time.monotonic() - start < 1.0
    logger.finalize("success")
    assert [call[2] for call in service.calls if call[0] == "metrics"] == list(range(1000))


def test_calls_do_not_pile_up_for_ever(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(worker, "CAPACITY", 20)
    service = Fake(hangs=["metrics"], cut_helps=False)
    logger = Guarded(service, tmp_path, patience=0.4)
    for step in range(50):
        logger.log_metrics({"loss": step}, step)
    logger.finalize("success")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "does not keep up" in line
    service.released.set()


def test_loggers_show_what_they_can(tmp_path):
    file = MetricsFile(tmp_path)
    show_picture([file], "samples", Path("a.png"), 1)
    show_table([file], "evaluation", {}, 1)
    log_figures([file], {"eval/w2": 0.5}, 1)
    assert (tmp_path / "metrics.csv").read_text() == "step,eval/w2\n1,0.5\n"
    assert (file.name, file.version, file.save_dir) == ("metrics.csv", "", str(tmp_path))


def test_patience_is_checked(tmp_path):
    with pytest.raises(InputError, match="patience must be > 0 seconds, got 0"):
        Guarded(Fake(), tmp_path, patience=0.0)
