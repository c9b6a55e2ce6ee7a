"""Compiling changes the time and not the samples; without a compiler it is refused at once."""

import shutil
import subprocess
import sys

import pytest
import torch

from flowgen.cli import main

POINTS = ["train", "data=moons", "model=mlp", "model.width=16", "model.depth=2", "run_dir=run"]
POINTS += ["callbacks=quiet", "trainer.max_steps=2"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_samples_are_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(POINTS) == 0
    sample = ["sample", "checkpoint=run", "num_samples=8", "sampler=euler", "sampler.num_steps=4"]
    assert main([*sample, "out=plain.pt"]) == 0
    # A process of its own: the checks of shapes that tests add to every call cannot be compiled.
    words = [*sample, "out=compiled.pt", "compile=true", "device=cpu"]
    subprocess.run([sys.executable, "-m", "flowgen", *words], check=True, cwd=tmp_path)
    plain, compiled = (
        torch.load(f"{name}.pt", weights_only=True)["samples"] for name in ("plain", "compiled")
    )
    torch.testing.assert_close(plain, compiled, rtol=1e-5, atol=1e-5)


def test_a_missing_compiler_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main([*POINTS, "compile=true"]) == 2
    assert "compile=true needs a C++ compiler" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
