import json
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from flowgen.couplings import Independent
from flowgen.integrators import Euler, trajectory
from unchecked import unchecked

PLACE = Path(__file__).resolve().parents[2] / "benchmarks"
SHORT = ["--steps", "20", "--batch", "16", "--points", "50", "--draws", "1", "--seeds", "42"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the script on a file of its own and returns what is in the file and what it said."""
    monkeypatch.syspath_prepend(str(PLACE))
    out = tmp_path / "transport.json"

    def call(*words, settings=SHORT, to=out):
        monkeypatch.setattr(sys, "argv", ["transport_2d.py", str(to), *settings, *words])
        threads = torch.get_num_threads()
        try:
            runpy.run_path(str(PLACE / "transport_2d.py"), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
        return json.loads(to.read_text()), capsys.readouterr().out

    call.out = out
    return call


@pytest.fixture
def methods():
    return runpy.run_path(str(PLACE / "transport_methods.py"))


ONE = ["--tasks", "N -> moons", "--libraries", "flowgen"]


def test_a_run_that_was_stopped_goes_on_and_repeats_nothing(run, tmp_path):
    content, said = run(*ONE, "--methods", "independent")
    assert said.count("N -> moons") == 1
    more, said = run(*ONE, "--methods", "independent", "2-rectified", "sb")
    assert said.count("N -> moons") == 2
    assert more["cells"][0] == content["cells"][0]
    joined, said = run("--join", str(run.out), to=tmp_path / "b.json")
    assert said == ""
    assert joined["cells"] == more["cells"]
    assert joined["summary"] == more["summary"]
    _, told = run("--table")
    assert "| flowgen, sb | - | - |" in told
    assert "torchcfm, ot" not in told
    assert "less torchcfm" not in told


def test_of_equal_cells_the_last_file_counts(run, tmp_path):
    content, _ = run(*ONE, "--methods", "independent")
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content | {"cells": [content["cells"][0] | {"w2": 7.0}]}))
    joined, _ = run("--join", str(run.out), str(other), to=tmp_path / "b.json")
    assert [cell["w2"] for cell in joined["cells"]] == [7.0]


def test_cells_of_another_protocol_are_not_mixed(run):
    run(*ONE, "--methods", "independent")
    with pytest.raises(SystemExit, match="was made with {'steps': 20}"):
        run(*ONE, "--methods", "independent", settings=["--steps", "21", *SHORT[2:]])


def test_the_same_cell_comes_out_the_same(run, tmp_path):
    cells = [run(*ONE, "--methods", "ot", to=tmp_path / name)[0]["cells"][0] for name in "ab"]
    for cell in cells:
        del cell["cpu_seconds"], cell["commit"]
    assert cells[0] == cells[1]


@pytest.mark.skipif(find_spec("torchcfm") is not None, reason="torchcfm is there")
def test_without_the_peer_one_line_says_so(run):
    with pytest.raises(SystemExit, match="torchcfm is not there: .* --libraries flowgen"):
        run("--tasks", "N -> moons", "--methods", "ot")


def test_one_noise_for_both_ends_gives_the_path_its_width(methods, generator):
    """x_t gets it whole at any time, the velocity not at all: torchcfm's path."""
    x_0, x_1 = torch.zeros(4000, 2), torch.full((4000, 2), 3.0)
    seen = {}

    def network(x, t, cond=None):
        seen.update(x=x, t=t)
        return torch.full_like(x, 3.0)

    loss = methods["ours"](Independent(), width=0.1)(network, x_0, x_1, generator)
    noise = seen["x"] - 3.0 * seen["t"][:, None]
    assert noise.std() == pytest.approx(0.1, rel=0.05)
    near, late = noise[seen["t"] < 0.2], noise[seen["t"] > 0.8]
    assert near.std() == pytest.approx(float(late.std()), rel=0.15)
    assert float(loss) == pytest.approx(0.0, abs=1e-10)


def test_every_method_of_flowgen_learns_something(methods, generator):
    task = "N -> moons"
    for (library, _), make in methods["METHODS"].items():
        if library == "flowgen":
            x_0, x_1 = (side.sample(64, generator=generator) for side in methods["TASKS"][task])
            network = methods["Network"]()
            make(task)(network, x_0, x_1, generator).backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
            assert trajectory(Euler(), network, x_0, torch.linspace(0, 1, 3), None).isfinite().all()


def test_summary_is_of_seeds_and_differences_are_seed_by_seed(monkeypatch):
    monkeypatch.syspath_prepend(str(PLACE))
    functions = runpy.run_path(str(PLACE / "transport_tables.py"))
    names = functions["SUMMED"]
    cells = [
        {"task": "a", "library": library, "method": "ot", "seed": seed}
        | dict.fromkeys(names, value)
        | {"path_energy": 2.0 * value, "averaged_path_energy": value}
        for library, seed, value in (
            ("flowgen", 1, 1.0),
            ("flowgen", 2, 3.0),
            ("torchcfm", 1, 2.0),
            ("torchcfm", 2, 5.0),
            ("torchcfm", 3, 9.0),
        )
    ]
    content = {"cells": cells, "ends": {"a": 4.0}}
    row = functions["summary"](content)[0]
    assert row["w2"] == {"mean": 2.0, "sd": pytest.approx(2**0.5, abs=1e-6), "se": 1.0, "n": 2}
    assert row["npe"]["mean"] == 0.5  # energies 2 and 6 beside 4
    for name in [name for name in names if name.startswith("averaged")]:
        del cells[0][name.replace("npe", "path_energy")]  # as in a file of an older version
    assert functions["summary"](content)[0]["averaged_w2"]["n"] == 1
    text = functions["tables"](content, ["a"], [("flowgen", "ot"), ("torchcfm", "ot")])
    assert "| flowgen, ot | 2.000 ± 1.000 |" in text
    assert "| ot | -1.500 ± 0.500 |" in text


def test_pairs_of_a_task_are_those_of_the_benchmark(methods, generator):
    """Moons standardised, times 7; modes at radius 12 of width 1.5 (Tong et al. 2024)."""
    source, data = methods["TASKS"]["moons -> 8 gaussians"]
    x = source.sample(20_000, generator=generator)
    assert x.std(dim=0).tolist() == pytest.approx([7.0, 7.0], rel=0.02)
    assert x.mean(dim=0).tolist() == pytest.approx([0.0, 0.0], abs=0.2)
    y = data.sample(20_000, generator=generator)
    assert float(y.square().sum(dim=1).mean()) == pytest.approx(12**2 + 2 * 1.5**2, rel=0.01)


@pytest.mark.parametrize("task", ["N -> 8 gaussians", "N -> moons", "8 gaussians -> moons"])
def test_the_figures_of_the_docs_are_what_optimal_pairs_are_for(task):
    """The line that these tasks are accepted by, of the averaged weights over five seeds."""
    content = json.loads((PLACE / "results" / "transport_2d.json").read_text())
    ot, independent = (
        {name: row[f"averaged_{name}"]["mean"] for name in ("w2", "w2_4", "npe")}
        for method in ("ot", "independent")
        for row in content["summary"]
        if (row["task"], row["library"], row["method"]) == (task, "flowgen", method)
    )
    assert ot["w2_4"] <= 1.15 * ot["w2"]
    assert independent["w2_4"] >= 1.8 * independent["w2"]
    assert ot["npe"] < 0.1


@pytest.mark.slow
def test_optimal_pairs_need_few_steps_and_independent_ones_do_not(run):
    """What a flow after optimal pairs is for: it is straight, so four steps are nearly enough."""
    settings = ["--steps", "3000", "--batch", "128", "--points", "500", "--draws", "4"]
    chosen = ["--tasks", "8 gaussians -> moons", "--libraries", "flowgen", "--seeds", "42"]
    with unchecked():
        content, _ = run("--methods", "independent", "ot", *chosen, settings=settings)
    ot, independent = (
        {name: row[f"averaged_{name}"]["mean"] for name in ("w2", "w2_4", "npe")}
        for method in ("ot", "independent")
        for row in content["summary"]
        if row["method"] == method
    )
    # Of four seeds: ratios 0.96 to 0.98 and 1.77 to 2.33, energies 0.01 to 0.08 and 0.34 to 0.41.
    assert ot["w2_4"] <= 1.1 * ot["w2"]
    assert ot["npe"] < 0.1
    assert independent["w2_4"] >= 1.6 * independent["w2"]
    assert independent["npe"] > 0.25
