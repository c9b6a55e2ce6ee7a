"""Compiling changes the time and not the samples; without a compiler it is refused at once."""

import shutil
import subprocess
import sys

import pytest
import torch

from flowgen.cli import main
from runs import losses

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


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_step_as_one_graph_learns_the_same(tmp_path):
    for name in ("false", "step"):
        words = [*POINTS, f"run_dir=run_{name}", f"compile={name}", "trainer.log_every_n_steps=1"]
        subprocess.run([sys.executable, "-m", "flowgen", *words], check=True, cwd=tmp_path)
    plain, compiled = (losses(tmp_path / f"run_{name}") for name in ("false", "step"))
    assert len(plain) == len(compiled) == 2
    for one, other in zip(plain, compiled, strict=True):
        for column in ("loss", "grad_norm"):
            assert float(one[column]) == pytest.approx(float(other[column]), rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("debug=true", "debug=true looks at values inside the step"),
        ("micro_batch=8", "micro_batch is for batches that do not fit"),
        ("trainer.precision=bf16-mixed", "compile=step computes in float32"),
        ("trainer.devices=2 trainer.strategy=ddp", "compile=step is for small networks in one"),
    ],
)
def test_a_step_as_one_graph_is_refused_where_it_does_not_fit(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main([*POINTS, "trainer=cpu", "compile=step", *words.split()]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_step_of_distillation_is_no_graph(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(POINTS) == 0
    words = ["distill", "teacher=run", "distill=one_step", "run_dir=student", "compile=step"]
    assert main([*words, "trainer=cpu", "table.num_samples=0"]) == 2
    assert "Reflow does not say of itself: use compile=true" in capsys.readouterr().err
    assert not (tmp_path / "student").exists()
