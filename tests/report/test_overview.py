import os
from datetime import timedelta

import pytest

from flowgen.report import read_run
from flowgen.report.overview import progress
from run_folders import ABOUT, CONFIG, NOW, page_of, write


def test_head_says_what_the_run_is(run_folder):
    page = page_of(run_folder)
    for part in (
        "digits Finished".replace(" ", ""),
        "experiment digits · started 1 Mar 2026, 12:00 UTC · on cpu · seed 3",
        "step 400 of 400 100 %",
        "Time 15 min 5 s in 2 sessions",
        "Throughput 2,000 /s 37 ms a step",
        "Updated 1 Mar 2026, 12:30 UTC · trained with flowgen 9.8.7",
    ):
        assert part.replace(" ", "").replace("✓", "") in page.text.replace(" ", "").replace("✓", "")
    bar = page.all("div", "track")[0]
    assert (bar["aria-valuenow"], bar["aria-valuemax"]) == ("400", "400")


def running(run_folder):
    sessions = [ABOUT["sessions"][0], ABOUT["sessions"][1] | {"ended": None, "to_step": None}]
    about = {"status": "running", "max_steps": 800, "sessions": sessions}
    write(run_folder / "run.json", ABOUT | about)
    for path in (file for file in run_folder.rglob("*") if file.is_file()):
        os.utime(path, (NOW.timestamp() - 5,) * 2)
    return read_run(run_folder)


def test_a_running_run_tells_the_time_to_go(run_folder):
    run = running(run_folder)
    state = progress(run, NOW)
    # 200 steps since 12:15 until the last news at 12:29:55, 400 to go at that pace
    assert state.left == pytest.approx(400 * 895 / 200)
    assert state.elapsed == pytest.approx(600 + 895)
    assert state.share == 0.5
    page = page_of(run_folder)
    assert "Time to go 29 min 50 s 24 min 55 s so far" in page.text
    body = page.all("body")[0]
    assert body["data-refresh"] == "30"
    assert "live" in page.ids


def test_a_sign_of_life_is_news_but_no_step(run_folder):
    before = progress(running(run_folder), NOW)
    os.utime(run_folder / "run.json", (NOW.timestamp() + 3600,) * 2)
    after = progress(read_run(run_folder), NOW + timedelta(hours=1))
    assert after.silent is None
    assert after.left == before.left


def test_a_silent_run_says_so_and_does_not_reload(run_folder):
    running(run_folder)
    page = page_of(run_folder, NOW + timedelta(hours=2))
    assert "No news for 2 h" in page.text
    assert "data-refresh" not in page.all("body")[0]


@pytest.mark.parametrize("status", ["interrupted", "stopped", "failed"])
def test_a_run_that_broke_off_says_why(run_folder, status):
    write(run_folder / "run.json", ABOUT | {"status": status})
    page = page_of(run_folder)
    assert status.capitalize() in page.text
    assert "Ended: SIGTERM" in page.text
    assert page.all("span", status)


def test_without_run_json_the_steps_tell(run_folder):
    (run_folder / "run.json").unlink()
    assert "Status not recorded" in page_of(run_folder).text
    write(run_folder / "config.yaml", CONFIG.replace("800", "400"))
    assert "Finished" in page_of(run_folder).text
