"""Several processes sample and evaluate as one does, and one of them writes."""

import json

import numpy as np
import pytest

from command_runs import commands
from flowgen.pipeline import save
from small import built, image_config
from two_processes import in_two_processes

SAMPLE = ["sample", "checkpoint=small.safetensors", "num_samples=7", "chunk=2", "seed=3"]
EVALUATE = [
    *("evaluate", "checkpoint=small.safetensors", "data=digits", "num_samples=21", "chunk=8"),
    *("measures=[image_distance]", "measure.image_distance.extractor=pixels"),
    *("measure.image_distance.max_reference=40", "device=cpu"),
]


@pytest.mark.slow
def test_two_processes_make_the_samples_and_figures_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = image_config(10)
    config["field"]["network"]["shape"] = config["source"]["shape"] = [1, 8, 8]
    config["conditioner"]["names"] = [str(i) for i in range(10)]
    save(built(config), tmp_path / "small.safetensors")
    sweep = [*EVALUATE, "num_steps=[2]", "fine.num_steps=4", "fine.num_samples=3"]
    lines = [
        [[*SAMPLE, f"out={where}.npz"], [*EVALUATE, f"out={where}.json"]]
        + [[*sweep, f"out={where}_sweep.json"], [*SAMPLE, f"out={where}", "num_samples=1"]]
        for where in ("one", "two")
    ]
    assert commands(tmp_path, *lines[0])[0] == [0, 0, 0, 0]
    (codes, told), (other_codes, other_told) = in_two_processes(commands, tmp_path, *lines[1])
    assert codes == other_codes == [0, 0, 0, 0]
    assert "7 samples in" in told
    assert other_told == ""
    one, two = np.load("one.npz"), np.load("two.npz")
    assert np.abs(one["samples"].astype(int) - two["samples"]).max() <= 1  # rounding of a level
    assert (one["labels"] == two["labels"]).all()
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["00000_label0.png"]
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    for name, value in one["figures"]["distance to held-out images"].items():
        if isinstance(value, float):
            assert two["figures"]["distance to held-out images"][name] == pytest.approx(
                value, rel=1e-4
            ), name
    one, two = (
        json.loads((tmp_path / f"{n}_sweep.json").read_text())["rows"] for n in ("one", "two")
    )
    assert two[0]["rmse_to_fine"] == pytest.approx(one[0]["rmse_to_fine"], rel=1e-4)
