"""Sweeps whose jobs run in other processes, as they do on a cluster."""

import subprocess
import sys

import pytest

from flowgen.pipeline import save
from small import built, vector_config

pytest.importorskip("submitit")

SAMPLE = [
    *("sample", "checkpoint=small.safetensors", "num_samples=3", "device=cpu"),
    *("out='${seed}.npz'", "--multirun", "hydra/launcher=submitit_local"),
]


@pytest.mark.slow
def test_jobs_run_elsewhere_and_what_one_refuses_is_told_here(tmp_path):
    save(built(vector_config()), tmp_path / "small.safetensors")
    # A process without type checks, which cannot be pickled.
    told = subprocess.run(
        [sys.executable, "-m", "flowgen", *SAMPLE, "seed=5,-2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert told.returncode == 2, told.stderr
    assert told.stderr.splitlines()[-1] == "error: seed must be >= 0, got -2"
    [line] = told.stdout.splitlines()
    assert line.startswith("2 jobs go to submitit_local; what they print: multirun/")
    logs = sorted((tmp_path / line.split()[-1]).glob("*/*_log.out"))
    assert any("3 samples in" in path.read_text() for path in logs)
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == ["5.npz"]
