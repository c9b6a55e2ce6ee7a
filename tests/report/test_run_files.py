import json

import pytest

from flowgen.report import is_run, read_run
from run_folders import write


def test_a_whole_run(run_folder):
    run = read_run(run_folder)
    assert is_run(run_folder)
    assert (run.name, run.step, run.max_steps) == ("digits", 400, 400)
    assert list(run.pictures) == [100, 200, 300, 400]
    assert [e.step for e in run.evaluations] == [200, 400]
    assert [e.source for e in run.final] == ["evaluation.json", "evaluation_sweep.json"]
    assert run.final[0].step == 400
    assert len(run.final[1].rows) == 8
    assert run.resumes == [200]
    assert [s.reason for s in run.sessions] == ["SIGTERM", ""]


def test_config_alone(tmp_path):
    write(tmp_path / "config.yaml", "name: null\ntrainer:\n  max_steps: 70\n")
    run = read_run(tmp_path)
    assert (run.name, run.step, run.max_steps) == (tmp_path.name, 0, 70)
    assert run.sessions == []


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"sessions": 3}', '{"sessions": [3, {}]}', "[" * 100_000]
)
def test_a_torn_or_foreign_run_json_is_an_absent_part(tmp_path, content):
    write(tmp_path / "run.json", content)
    run = read_run(tmp_path)
    assert run.max_steps is None
    assert run.step == 0


@pytest.mark.parametrize("value", ["many", None, float("nan"), float("inf"), [], 2.5, "1e999"])
def test_odd_numbers_of_steps(tmp_path, value):
    write(tmp_path / "run.json", json.dumps({"max_steps": value}))
    assert read_run(tmp_path).max_steps is None


def test_other_files_in_the_folders_are_left_alone(run_folder):
    for name in ("samples/step_x.png", "samples/grid.png", "samples/.step_0000001.png.tmp"):
        write(run_folder / name, b"")
    for name in ("evaluations/step_0000300.json", "evaluation_old.json"):
        write(run_folder / name, "{ torn")
    run = read_run(run_folder)
    assert list(run.pictures) == [100, 200, 300, 400]
    assert [e.step for e in run.evaluations] == [200, 400]


def test_what_is_no_run(tmp_path):
    assert not is_run(tmp_path)
    assert not is_run(tmp_path / "none")
    assert not is_run(write(tmp_path / "file", "x"))
