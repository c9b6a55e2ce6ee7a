"""metrics.csv: one row a step, whole after a kill, a full disk, new columns and a resume."""

import csv
import math
import os
import random
import resource
import signal
import time
from contextlib import contextmanager

import pytest
import torch

from flowgen.training.loggers import MetricsFile, log_figures, resume_at


def table(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def values(folder, name):
    return [float(row[name]) for row in table(folder)]


def test_numbers_read_back_as_they_were(tmp_path):
    file = MetricsFile(tmp_path)
    numbers = [0.1 + 0.2, 1e-300, -math.inf, float(torch.tensor(1 / 3))]
    for step, number in enumerate(numbers):
        file.log_metrics({"loss": number, "skipped": 3}, step)
    assert values(tmp_path, "loss") == numbers
    file.log_metrics({"loss": math.nan}, 9)
    assert math.isnan(values(tmp_path, "loss")[-1])
    assert table(tmp_path)[0]["skipped"] == "3"


def test_numbers_of_one_step_share_a_row_whoever_logs_them(tmp_path):
    file = MetricsFile(tmp_path)
    file.log_metrics({"loss": 1.0}, 10)
    log_figures([file], {"eval/w2": 0.5, "loss": 2.0}, 10)
    file.log_metrics({"loss": 3.0}, 20)
    file.log_metrics({"eval/w2": 0.25}, 20)
    assert table(tmp_path) == [
        {"step": "10", "loss": "2.0", "eval/w2": "0.5"},
        {"step": "20", "loss": "3.0", "eval/w2": "0.25"},
    ]


def test_numbers_of_an_older_step_go_to_its_row(tmp_path):
    file = MetricsFile(tmp_path)
    for step in (10, 20, 30):
        file.log_metrics({"loss": step}, step)
    file.log_metrics({"late": 1.5}, 20)
    file.log_metrics({"loss": 7}, 15)
    file.log_metrics({"loss": 40}, 40)
    assert [row["step"] for row in table(tmp_path)] == ["10", "15", "20", "30", "40"]
    assert [row["late"] for row in table(tmp_path)] == ["", "", "1.5", "", ""]
    assert values(tmp_path, "loss") == [10, 7, 20, 30, 40]


def test_columns_may_come_later_and_have_any_name(tmp_path):
    file = MetricsFile(tmp_path)
    file.log_metrics({"loss": 1}, 1)
    file.log_metrics({"a,b": 2, 'c"d': 3}, 2)
    file.log_metrics({"loss": 4}, 3)
    assert list(table(tmp_path)[0]) == ["step", "loss", "a,b", 'c"d']
    assert [row["a,b"] for row in table(tmp_path)] == ["", "2", ""]


@pytest.mark.parametrize("stop", [0, 3, 5, 8])
def test_a_resumed_file_has_the_bytes_of_one_that_was_never_stopped(tmp_path, stop):
    def log(file, step):
        file.log_metrics({"loss": 1 / (step + 1), "lr": 0.1 * step}, step)
        if step % 4 == 0:
            file.log_metrics({"eval/w2": step / 7}, step)

    alone = MetricsFile(tmp_path / "alone")
    for step in range(10):
        log(alone, step)
    first = MetricsFile(tmp_path / "stopped")
    for step in range(9):
        log(first, step)
    second = MetricsFile(tmp_path / "stopped")
    resume_at([second], stop)
    assert [row["step"] for row in table(tmp_path / "stopped")] == [str(i) for i in range(stop + 1)]
    for step in range(stop + 1, 10):
        log(second, step)
    bytes_of = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("alone", "stopped")]
    assert bytes_of[0] == bytes_of[1]


def test_a_new_run_in_the_folder_starts_the_file_again(tmp_path):
    MetricsFile(tmp_path).log_metrics({"loss": 1}, 50)
    file = MetricsFile(tmp_path)
    file.resume_at(0)
    file.log_metrics({"loss": 2}, 25)
    assert [row["step"] for row in table(tmp_path)] == ["25"]


@pytest.mark.parametrize("torn", ["30,0.", "30", "\0\0\0\0\n", "30,1,2,3\n", "x,1\n", "30,\xff"])
def test_what_is_torn_is_dropped(tmp_path, torn):
    file = MetricsFile(tmp_path)
    for step in (10, 20):
        file.log_metrics({"loss": step}, step)
    with (tmp_path / "metrics.csv").open("a", encoding="latin-1") as tail:
        tail.write(torn)
    again = MetricsFile(tmp_path)
    again.log_metrics({"loss": 40}, 40)
    assert [row["step"] for row in table(tmp_path)] == ["10", "20", "40"]
    assert values(tmp_path, "loss") == [10, 20, 40]


def test_files_of_other_loggers_are_read_by_their_step_or_replaced(tmp_path):
    (tmp_path / "metrics.csv").write_text("loss,step\n0.5,10\n0.25,20\n")
    file = MetricsFile(tmp_path)
    file.resume_at(10)
    file.log_metrics({"loss": 5}, 11)
    assert (tmp_path / "metrics.csv").read_text() == "step,loss\n10,0.5\n11,5\n"
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,2\n")
    MetricsFile(tmp_path).log_metrics({"a": 5}, 1)
    assert table(tmp_path) == [{"step": "1", "a": "5"}]


def test_a_kill_loses_at_most_the_row_being_written(tmp_path):
    chance = random.Random(0)
    for trial in range(5):
        folder = tmp_path / str(trial)
        child = os.fork()
        if child == 0:
            file = MetricsFile(folder)
            for step in range(1_000_000):
                file.log_metrics({f"loss/t{i}": step / 3 for i in range(20)}, step)
                file.log_metrics({"eval/w2": step / 7}, step)
            os._exit(0)
        while not (folder / "metrics.csv").is_file():
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        rows = list(csv.DictReader((folder / "metrics.csv").read_text().split("\n")[:-1]))
        assert [row["step"] for row in rows] == [str(i) for i in range(len(rows))]
        assert all(float(row["eval/w2"]) == int(row["step"]) / 7 for row in rows[:-1])


@contextmanager
def full_disk(limit):
    """Let no file of this process grow beyond ``limit`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("more", [0, 3, 8])
def test_a_full_disk_costs_one_warning_and_no_row(tmp_path, caplog, more):
    file = MetricsFile(tmp_path)
    for step in (1, 2):
        file.log_metrics({"loss": step}, step)
    whole = (tmp_path / "metrics.csv").read_bytes()
    with full_disk(len(whole) + more):
        file.log_metrics({"lossy": 0.0}, 2)  # a column that is new: the whole file is written again
        for step in (3, 4, 5):
            file.log_metrics({"loss": step / 7}, step)
        file.finalize("success")
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "cannot be written" in warnings[0]
    assert "training goes on" in warnings[0]
    assert (tmp_path / "metrics.csv").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    file.finalize("success")
    assert values(tmp_path, "loss") == [1, 2, 3 / 7, 4 / 7, 5 / 7]


def test_a_full_disk_leaves_the_half_of_a_row_that_was_there(tmp_path):
    file = MetricsFile(tmp_path)
    file.log_metrics({"a": 1, "b": 2}, 1)
    file.log_metrics({"b": 2}, 2)
    whole = (tmp_path / "metrics.csv").read_bytes()
    with full_disk(len(whole) + 2):
        file.log_metrics({"a": 1 / 3}, 2)
    assert (tmp_path / "metrics.csv").read_bytes() == whole
    file.log_metrics({"a": 5}, 3)
    assert [row["a"] for row in table(tmp_path)] == ["1", repr(1 / 3), "5"]


def test_what_was_waiting_for_room_is_forgotten_by_a_resume_before_it(tmp_path):
    file = MetricsFile(tmp_path)
    file.log_metrics({"loss": 1}, 1)
    with full_disk(5):
        file.log_metrics({"loss": 2}, 2)
        file.log_metrics({"other": 3}, 3)
        file.resume_at(2)
    file.finalize("success")
    assert [row["step"] for row in table(tmp_path)] == ["1", "2"]
