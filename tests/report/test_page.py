import json
import re
import shlex

import pytest

from flowgen.report import read_run
from run_folders import ABOUT, CONFIG, FIGURES, SWEEP, csv_text, page_of, png, text_of, write


def figure_data(page, word):
    """What the figure with a curve of this label shows beside the pointer."""
    found = [json.loads(a["data-hover"]) for a in page.all("figure") if a.get("data-hover")]
    return next(d for d in found if any(word == c["label"] for c in d["curves"]))


def test_curves_are_those_of_the_file(run_folder):
    page = page_of(run_folder)
    loss = figure_data(page, "loss")["curves"][0]
    series = read_run(run_folder).metrics["loss"]
    assert loss["x"] == series.steps.tolist()
    assert loss["y"] == pytest.approx(series.values.tolist(), rel=1e-4)
    phases = figure_data(page, "coupling")
    assert [c["label"] for c in phases["curves"]] == [
        *("data", "coupling", "forward", "backward", "optimizer"),
    ]
    assert [c["y"][0] for c in phases["curves"]] == [1, 2, 10, 20, 4]
    assert "backward 20 ms (54 %)" in page.text
    heat = json.loads(page.all("div", "heat")[0]["data-heat"])
    assert heat["bins"][0] == "0–0.1"
    assert heat["bins"][-1] == "0.9–1"
    assert len(heat["cells"]) == 10
    assert heat["cells"][5][-1] == pytest.approx(series.last * 1.0, rel=1e-3)
    assert "resumed at step 200" in page.text


def test_evaluations_stand_beside_their_floors(run_folder):
    page = page_of(run_folder)
    assert "fd_pixels 1.311 0.708" in page.text
    assert "accuracy 0.942 –" in page.text
    assert "samples 500 · features pixels" in page.text
    assert "weights ema" in page.text
    assert "energy 470 –" in page.text  # the newest made during training
    curve = figure_data(page, "floor")["curves"]
    assert curve[0]["x"] == [100, 200, 300, 400]
    assert curve[1]["y"] == [0.7, 0.7, 0.7, 0.7]
    energy = [json.loads(a["data-hover"]) for a in page.all("figure") if a.get("data-hover")]
    assert [270, 470] in [c["y"] for d in energy for c in d["curves"]]


def test_a_sweep_is_a_curve_for_each_sampler(run_folder):
    page = page_of(run_folder)
    data = figure_data(page, "heun")
    assert [c["label"] for c in data["curves"]] == ["euler", "heun"]
    assert data["curves"][1]["x"] == [2, 4, 8, 16]
    assert data["curves"][1]["y"] == [9, 5, 3, 2]
    assert "floor 0.7" in page.text


@pytest.mark.parametrize(
    "rows", [[{"nfe": 4}], [{"fd": 1.0}], [{"nfe": -1, "fd": 1}, {"nfe": None}]]
)
def test_a_sweep_without_enough_in_it_is_left_out(run_folder, rows):
    write(run_folder / "evaluation_sweep.json", {"rows": rows})
    assert "Quality against cost" not in page_of(run_folder).text


def test_a_sweep_beside_figures_by_number_of_steps(run_folder):
    rows = [{"num_steps": row["num_steps"], "fd": row["fd"]} for row in SWEEP["rows"][:4]]
    (run_folder / "evaluation_sweep.json").unlink()
    write(run_folder / "evaluation.json", FIGURES | {"sweep": {"rows": rows}})
    page = page_of(run_folder)
    assert figure_data(page, "fd")["word"] == "num_steps"


def test_pictures_are_inside_the_page(run_folder):
    pictures = page_of(run_folder).all("img")
    assert [p["data-step"] for p in pictures] == ["100", "200", "300", "400"]
    assert [("hidden" in p) for p in pictures] == [True, True, True, False]
    assert {(p["width"], p["height"]) for p in pictures} == {("8", "6")}
    assert pictures[1]["alt"] == "Samples after 200 steps"


def test_many_pictures_are_thinned_and_it_says_so(run_folder):
    for step in range(1, 100):
        write(run_folder / "samples" / f"step_{step:07d}.png", png(step))
    write(run_folder / "samples" / "step_0000400.png", png(1)[:-15])
    page = page_of(run_folder)
    steps = [int(p["data-step"]) for p in page.all("img")]
    assert len(steps) == 39  # the newest is being written
    assert (steps[0], steps[-1]) == (1, 100)
    assert "64 of 103 pictures are not on this page" in page.text


def test_commands_are_complete_and_can_be_copied(run_folder):
    page = page_of(run_folder)
    for line in (
        "flowgen sample checkpoint=runs/digits num_samples=64 out=grid.png",
        "flowgen evaluate checkpoint=runs/digits",
        "flowgen train resume=runs/digits trainer.max_steps=800",
        "flowgen report runs/digits",
        "flowgen train experiment=digits 'name=two words'",
    ):
        assert line in page.text
    assert len(page.all("button", "copy")) == 5


def test_an_unfinished_run_goes_on_to_its_own_end(run_folder):
    write(run_folder / "run.json", ABOUT | {"max_steps": 900})
    assert "flowgen train resume=runs/digits" in page_of(run_folder).texts


def test_commands_of_a_folder_that_was_moved_and_has_an_odd_name(run_folder):
    odd = run_folder.rename(run_folder.with_name("it's, two=words"))
    write(odd / "nonfinite" / "step_0000007.pt", b"")
    page = page_of(odd)
    line = next(t for t in page.texts if t.startswith("flowgen sample"))
    words = shlex.split(line)
    assert words[2].startswith("checkpoint='")
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(words[2])
    assert override.value() == odd.resolve().as_posix()
    assert any(t.startswith("flowgen replay") for t in page.texts)
    assert "1 batch with a loss or gradient that was not finite" in page.text


def test_config_versions_and_overrides(run_folder):
    write(run_folder / "run.json", ABOUT | {"commit": "0123456789ab" + 28 * "c" + "-dirty"})
    page = page_of(run_folder)
    for part in ("2.13.0", "0123456789ab-dirty", "optimizer.lr=0.002", "max_steps: 800", "- 8"):
        assert part in page.text
    keys = [a["data-words"] for a in page.all("code") if "data-words" in a]
    assert "trainer.max_steps 800" in keys
    assert len(keys) == len(CONFIG.splitlines())


def test_a_long_run_is_a_small_page(run_folder):
    write(run_folder / "metrics.csv", csv_text(range(1, 8001)))
    assert len(text_of(run_folder).encode()) < 600_000


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "metrics.csv", "samples"])
def test_one_part_alone_is_a_page(tmp_path, run_folder, name):
    alone = tmp_path / "alone"
    alone.mkdir()
    (run_folder / name).rename(alone / name)
    page = page_of(alone)
    assert "alone" in page.text or name == "config.yaml"
    assert ("Nothing has been logged yet" in page.text) == (name != "metrics.csv")
    assert bool(page.all("img")) == (name == "samples")
    rest = page_of(run_folder)
    assert rest.text


@pytest.mark.parametrize(
    "rows", ["", "10,nan,nan\n", "10,0.5,0.5\n", "10,0,-1\n20,-1,0\n", "0,1,1\n"]
)
def test_few_or_odd_values(tmp_path, rows):
    write(
        tmp_path / "metrics.csv",
        f"step,loss,loss/t0.0,ms/data\n{rows.replace(chr(10), ',1' + chr(10))}",
    )
    page = page_of(tmp_path)
    assert "Training" in page.text
    assert ("1 value not finite" in page.text) == ("nan" in rows)


def test_values_that_are_not_finite_are_marked(run_folder):
    text = csv_text(range(10, 401, 10)).splitlines()
    text[5] = re.sub(r"^(\d+),[^,]*", r"\1,nan", text[5])
    write(run_folder / "metrics.csv", "\n".join(text) + "\n")
    page = page_of(run_folder)
    assert "1 value not finite" in page.text
    assert page.all("span", "bad")[0]["style"].startswith("left:12.50%")


def test_other_columns_are_folded_and_counted(run_folder):
    write(
        run_folder / "metrics.csv", csv_text(range(10, 101, 10), extra=[f"x{i}" for i in range(30)])
    )
    text = csv_text(range(10, 101, 10), extra=[f"x{i}" for i in range(30)])
    write(run_folder / "metrics.csv", text.replace("," * 30, ",1" * 30))
    page = page_of(run_folder)
    assert "Also logged (31)" in page.text
    assert "7 more are in metrics.csv" in page.text
