"""``flowgen evaluate`` beyond the plain case: chosen measures, and quality against cost."""

import json
from pathlib import Path

import pytest

from flowgen.cli import main
from flowgen.report import read_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "moons"
    small = ["model.width=16", "model.depth=1", "trainer.max_steps=4", "data.batch_size=32"]
    data = ["data.num_train=300", "data.num_test=60", "callbacks=quiet"]
    assert main(["train", "experiment=moons", *data, *small, f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL = ["num_samples=30", "fine.num_samples=10", "fine.num_steps=8"]


def test_sweep_gives_rows_a_table_and_a_plot(trained, place, capsys):
    words = ["samplers=[euler,heun,stored]", "num_steps=[1,2]", "out=e.json", *SMALL]
    assert main(["evaluate", f"checkpoint={trained}", *words]) == 0
    result = json.loads(Path("e.json").read_text())
    rows = result["rows"]
    assert [(row["sampler"], row["nfe"]) for row in rows] == [
        *[("euler", 1), ("euler", 2)],
        *[("heun", 2), ("heun", 4)],
        *[("stored", 2), ("stored", 4)],
    ]
    heun, stored = rows[3], rows[5]
    assert stored["w2"] == heun["w2"]  # the checkpoint's own is heun
    assert "rk4, 8 uniform steps" in result["protocol"]["fine"]
    assert Path("e.png").stat().st_size > 1000
    out = capsys.readouterr().out
    assert "rmse_to_fine" in out
    assert out.count("euler") == 2


def test_sweep_lies_beside_the_figures_of_the_run(trained, place):
    assert main(["evaluate", f"checkpoint={trained}", "num_steps=[1,2]", *SMALL]) == 0
    words = ["measures=[discrepancy]", "num_samples=30"]
    assert main(["evaluate", f"checkpoint={trained}", *words]) == 0
    names = {path.name for path in trained.glob("evaluation*")}
    assert names == {"evaluation.json", "evaluation_sweep.json", "evaluation_sweep.png"}
    figures = json.loads((trained / "evaluation.json").read_text())["figures"]
    assert list(figures) == ["discrepancy from held-out points"]
    assert {len(made.rows) for made in read_run(trained).final} == {0, 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["samplers=[eulr]"], "did you mean 'euler'"),
        (["samplers=[]"], "nothing to compare"),
        (["num_steps=[0]"], "num_steps must be whole numbers >= 1"),
        (["num_steps=[1.5]"], "num_steps"),
        (["num_steps=[2]", "fine.num_steps=1"], "fine.num_steps must be >= 2"),
        (["num_steps=[2]", "lpips_weights=[a]"], "lpips_weights must be two files"),
        (["num_steps=[2]", "lpips_weights=[a,b]"], "no file a"),
        (["measures=[labels]"], "'labels' does not fit: the data are not images"),
        (["measures=[fid]"], "there is no 'fid'"),
        (["measures=[paths]", "num_steps=[2]"], "does not depend on the sampler"),
    ],
)
def test_slips_are_told_in_one_line(words, message, trained, place, capsys):
    assert main(["evaluate", f"checkpoint={trained}", "num_samples=30", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert list(place.iterdir()) == []


def test_evaluation_while_training(place, capsys):
    words = ["experiment=moons", "callbacks=evaluate", "callbacks.evaluate.every_n_steps=2"]
    small = ["model.width=16", "model.depth=1", "trainer.max_steps=3", "data.batch_size=32"]
    best = ["callbacks.checkpoints.best_metric=eval/w2", "callbacks.checkpoints.every_n_steps=1"]
    assert main(["train", *words, *small, *best, "data.num_train=300", "run_dir=run"]) == 0
    names = sorted(path.name for path in Path("run/evaluations").iterdir())
    assert names == ["step_0000002.json", "step_0000003.json"]
    assert Path("run/checkpoints/best.ckpt").is_file()
    assert "eval/w2" in Path("run/metrics.csv").read_text().splitlines()[0]
    assert main(["evaluate", "checkpoint=run", "measures=[transport]", "num_samples=20"]) == 0
