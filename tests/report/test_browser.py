"""The page in a real browser, where there is one: its script runs, and nothing complains."""

import os
import re
import shutil
import subprocess

import pytest

from flowgen.report import write_report
from run_folders import NOW, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs a headless Chromium")

PROBE = """
<script>
addEventListener("load", () => {
  const $ = (query) => document.querySelector(query);
  const enter = (query, value) => {
    $(query).value = value;
    $(query).dispatchEvent(new Event("input"));
  };
  const act = {
    play: () => $("#play").click(),
    point: () => $(".loss .area").dispatchEvent(new PointerEvent("pointermove", {
      clientX: $(".loss .area").getBoundingClientRect().left + 1, clientY: 0})),
    key: () => $(".heat").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowUp"})),
    search: () => enter("#search", "max_steps"),
    slide: () => enter("#slider", 0),
    copy: () => $(".copy").click(),
    log: () => $("[value=log]").click(),
    wide: () => {},
  };
  for (const name of location.search.slice(1).split(",")) (act[name] || (() => {}))();
  document.body.dataset.wide = document.documentElement.scrollWidth - innerWidth;
  document.body.dataset.shown = [...document.querySelectorAll(".loss .plot")]
    .filter((plot) => plot.offsetHeight).map((plot) => plot.dataset.plot).join();
});
</script>
"""


def browse(path, tmp_path, address="", width=1200):
    """Open a page; return what stands in it afterwards, and what the browser said."""
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--enable-logging=stderr", "--virtual-time-budget=800"),
            *(f"--window-size={width},900", f"--user-data-dir={tmp_path / 'browser'}"),
            path.resolve().as_uri() + address,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Page(done.stdout), console


@pytest.fixture
def report(run_folder):
    return write_report(run_folder, now=NOW)


@pytest.fixture
def probed(report):
    """The page with a second script that acts as a person would."""
    text = report.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    report.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    return report


def shown(page):
    return [image["data-step"] for image in page.all("img") if "hidden" not in image]


def test_the_address_chooses_the_picture_and_nothing_complains(report, tmp_path):
    page, console = browse(report, tmp_path, "#step=210")
    assert shown(page) == ["200"]
    assert "step 200" in page.text
    slider = next(a for a in page.all("input") if a.get("id") == "slider")
    assert slider["aria-valuetext"] == "step 200"
    assert console == []


def test_a_foreign_script_and_a_request_are_refused(report, tmp_path):
    text = report.read_text(encoding="utf-8")
    bad = '<script>document.title = "owned"</script><img src="http://127.0.0.1:9/x.png" alt="x">'
    report.write_text(text.replace("</body>", bad + "</body>"), encoding="utf-8")
    page, console = browse(report, tmp_path)
    assert "owned" not in page.text
    assert len([line for line in console if "Content Security Policy" in line]) == 2


def test_slider_plots_search_and_buttons_answer(probed, tmp_path):
    page, console = browse(probed, tmp_path, "?slide,point,search,copy,log")
    assert shown(page) == ["100"]
    assert "step 10 ■ loss 1.305 ■ smoothed (light) 1.305" in page.text
    assert "1 line" in page.text
    assert page.all("code", "hit")[0]["data-words"] == "trainer.max_steps 800"
    body = page.all("body")[0]
    assert body["data-shown"] == "log"
    assert console == []


def test_playing_goes_through_all_pictures(probed, tmp_path):
    page, console = browse(probed, tmp_path, "?play")
    assert int(shown(page)[0]) in (200, 300, 400)
    assert console == []


def test_the_map_answers_to_the_keyboard(probed, tmp_path):
    page, console = browse(probed, tmp_path, "?key#training")
    assert "t 0.6–0.7" in page.text
    assert shown(page) == ["400"]  # no step in the address: the newest
    assert console == []


@pytest.mark.parametrize("width", [500, 1600])
def test_nothing_sticks_out_at_the_side(probed, tmp_path, width):
    page, _ = browse(probed, tmp_path, "?wide", width)
    assert int(page.all("body")[0]["data-wide"]) <= 0
