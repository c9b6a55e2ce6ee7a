"""The doctor must find what is wrong: each examination is shown a healthy and a sick machine."""

import importlib.metadata
import os
import shutil

import pytest
import torch

from flowgen.cli import examinations, main
from flowgen.cli.examinations import Finding
from flowgen.training.loggers import wandb_service


def levels(found):
    return {finding.level for finding in found}


def the(found, part):
    (finding,) = [each for each in found if part in each.text]
    return finding


def test_this_machine_is_fit_for_the_tests(capsys, empty_cwd, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in (
        "versions",
        "device",
        "kernels",
        "data",
        "logger",
        "disk",
        "torch 2",
        "0 problems",
    ):
        assert part in out


def test_parts_can_be_chosen_and_slips_are_answered(capsys):
    assert main(["doctor", "disk"]) == 0
    assert "versions" not in capsys.readouterr().out
    assert main(["doctor", "kernel"]) == 2
    assert "did you mean 'kernels'" in capsys.readouterr().err
    assert main(["doctor", "--help"]) == 0
    assert "flowgen doctor device kernels" in capsys.readouterr().out


def test_a_problem_gives_exit_code_1_with_advice(capsys, monkeypatch):
    sick = {"disk": lambda: [Finding("problem", "it burns", "call the fire brigade")]}
    monkeypatch.setattr(examinations, "EXAMINATIONS", sick)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM  it burns" in out
    assert "-> call the fire brigade" in out
    assert "0 ok, 0 notes, 1 problem\n" in out


def test_old_and_missing_packages_are_named_with_the_command(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "tqdm":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "torch" else real(name)

    assert levels(examinations.versions()) == {"ok"}
    monkeypatch.setattr(importlib.metadata, "version", version)
    found = list(examinations.versions())
    assert the(found, "tqdm is missing").advice == "pip install 'tqdm>=4.66'"
    assert the(found, "torch 1.0, but flowgen needs >=2.6").level == "problem"


def test_a_driver_without_a_cuda_torch_is_a_problem(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "problem" not in levels(examinations.device())
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert the(examinations.device(), "NVIDIA driver").level == "problem"


def test_little_memory_is_noted(monkeypatch):
    monkeypatch.setattr(examinations, "_available_memory", lambda: 2**29)
    finding = the(examinations.device(), "memory")
    assert finding.level == "note"
    assert "micro_batch" in finding.advice


def test_wrong_attention_is_found(monkeypatch):
    assert "problem" not in levels(examinations.kernels())
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda q, k, v: torch.zeros_like(q)
    )
    assert the(examinations.kernels(), "attention in float32").level == "problem"

    def broken(q, k, v):
        raise RuntimeError("no kernel\nand more")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", broken)
    assert "fails: no kernel" in the(examinations.kernels(), "attention in bfloat16").text


def test_a_missing_compiler_is_noted(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert the(examinations.kernels(), "C++ compiler").level == "note"


def test_missing_data_and_extras_are_noted(monkeypatch, tmp_path):
    from flowgen.data import fashion_mnist

    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path)
    monkeypatch.setenv("FLOWGEN_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = list(examinations.data())
    assert "data.download=true" in the(found, "fashion_mnist is not").advice
    assert the(found, "mlxtend is missing").advice == "pip install 'flowgen[data]'"


def test_the_logging_service_is_tried_only_where_a_run_would(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    assert the(examinations.logger(), "not a mode").level == "problem"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert levels(examinations.logger()) == {"ok"}
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", "/nonexistent")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    finding = the(examinations.logger(), "no key is set")
    assert "wandb login" in finding.advice
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert the(examinations.logger(), "127.0.0.1:9 does not answer").level == "note"
    monkeypatch.setattr(wandb_service, "why_not_online", lambda: None)
    assert levels(examinations.logger()) == {"ok"}


def test_a_full_or_locked_disk_is_found(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    assert the(examinations.disk(), "here").level == "note"
    if os.geteuid() != 0:  # root writes anywhere
        tmp_path.chmod(0o500)
        assert the(examinations.disk(), "here").level == "problem"


def test_an_unwritable_folder_is_a_problem(monkeypatch):
    import tempfile

    def refuse(dir=None):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert "Read-only file system" in the(examinations.disk(), "here").text


@pytest.mark.parametrize("limit", ["max\n", "1048576\n"])
def test_memory_honours_a_limit_of_the_container(monkeypatch, limit):
    from pathlib import Path

    texts = {"/proc/meminfo": "MemAvailable: 4096 kB\n", "/sys/fs/cgroup/memory.max": limit}
    monkeypatch.setattr(Path, "read_text", lambda self: texts[str(self)])
    monkeypatch.setattr(Path, "is_file", lambda self: str(self) in texts)
    expected = 4096 * 1024 if limit == "max\n" else 1048576
    assert examinations._available_memory() == expected
