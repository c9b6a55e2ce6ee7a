import base64
import copy
import hashlib
import re
from datetime import timedelta

from run_folders import ABOUT, CONFIG, NOW, Page, csv_text, page_of, text_of, write

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&"


def test_nothing_in_the_files_becomes_markup(run_folder):
    about = copy.deepcopy(ABOUT)
    about["command"] += [HOSTILE]
    about["overrides"] += [HOSTILE]
    about |= {"experiment": HOSTILE, "device": HOSTILE, "commit": HOSTILE, "status": "failed"}
    about["sessions"][1]["reason"] = HOSTILE
    write(run_folder / "run.json", about)
    write(run_folder / "config.yaml", CONFIG + f"name: {HOSTILE}\n{HOSTILE}: {HOSTILE}\n")
    figures = {HOSTILE: {HOSTILE: 1.5, HOSTILE + "_floor": 1.0, "a": HOSTILE}}
    write(run_folder / "evaluation.json", {"figures": figures, "protocol": {HOSTILE: HOSTILE}})
    rows = [{"sampler": HOSTILE, "nfe": n, HOSTILE: n} for n in (1, 2)]
    write(run_folder / "evaluation_sweep.json", {"rows": rows})
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    steps = range(10, 101, 10)
    lines = csv_text(steps, extra=["x"]).splitlines()
    lines = [lines[0][:-1] + quoted, *(line + "2.5" for line in lines[1:])]
    write(run_folder / "metrics.csv", "\n".join(lines) + "\n")
    page = page_of(run_folder)
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 4
    assert not [a for _, a in page.elements for key in a if key.startswith("on")]
    assert page.text.count("alert(2)") >= 10


def test_the_page_asks_the_network_for_nothing(run_folder):
    text = text_of(run_folder)
    page = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    targets = [a[key] for _, a in page.elements for key in ("src", "href", "action") if key in a]
    assert all(target.startswith(("#", "data:image/")) for target in targets)
    anchors = {target[1:] for target in targets if target.startswith("#")}
    assert anchors <= set(page.ids)
    assert not page.all("link")
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_the_policy_names_the_very_script(run_folder):
    text = text_of(run_folder)
    script = re.search(r"<script>(.*?)</script>", text, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text.replace("&#x27;", "'").replace("&#x2F;", "/")


def test_every_label_belongs_to_something(run_folder):
    page = page_of(run_folder)
    for tag, attributes in page.elements:
        if tag == "img":
            assert attributes["alt"]
        if tag == "input" and attributes["type"] not in ("radio", "checkbox"):
            assert attributes["aria-label"]
        if attributes.get("role") == "img":
            assert attributes["aria-label"]
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in page.ids
        if "for" in attributes:
            assert attributes["for"] in page.ids


def test_the_same_run_at_the_same_moment_is_the_same_page(run_folder):
    assert text_of(run_folder) == text_of(run_folder)
    assert text_of(run_folder, NOW + timedelta(minutes=1)) != text_of(run_folder)
