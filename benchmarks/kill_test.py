"""Kill a training run at random moments, go on each time, compare with a run never stopped.

    python benchmarks/kill_test.py [result.json]

A small transformer learns the digits. SIGKILL comes after a random number of steps, once while a
checkpoint is half written and once with two loader processes; ``resume=auto`` goes on each time. At
the end weights, averaged weights, optimiser, schedule and random generators must be equal bit by
bit, and the loss columns of metrics.csv byte by byte. Then the time from SIGTERM and from Ctrl-C to
the exit is measured, and what a disk that stays full costs.
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STEPS = 300
EVERY = 20
COMMAND = [
    *("experiment=digits", "model.width=16", "model.depth=1", "model.heads=2"),
    *("trainer=cpu", f"trainer.max_steps={STEPS}", "trainer.log_every_n_steps=2"),
    *("data.batch_size=64", "micro_batch=32", "coupling=class_assignment", "threads=1"),
]
QUIET = ["callbacks=quiet", f"callbacks.checkpoints.every_n_steps={EVERY}"]
LOSSES = ("step", "loss", "lr", "grad_norm")

SUPPORT = '''
"""Callbacks for the kill test: a writer that stops half way, and a disk that is full."""

import io
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from flowgen.training import Checkpoints
from lightning.pytorch import Callback


class HalfWritten(Checkpoints):
    def __init__(self, folder, *, pause_at, **settings):
        super().__init__(folder, **settings)
        self.pause_at = pause_at

    def _write(self, content, step, better):
        if step < self.pause_at:
            return super()._write(content, step, better)
        save = torch.save

        def half(value, file):
            whole = io.BytesIO()
            save(value, whole)
            file.write(whole.getvalue()[: whole.tell() // 2])
            file.flush()
            Path("half_written").touch()
            time.sleep(600)

        torch.save = half
        return super()._write(content, step, better)


class FullDisk(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 1:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
'''
HALF = f"""
checkpoints:
  _target_: kill_support.HalfWritten
  folder: ${{run_dir}}
  every_n_steps: {EVERY}
  pause_at: 0
"""
FULL = f"""
full:
  _target_: kill_support.FullDisk
checkpoints:
  _target_: flowgen.training.Checkpoints
  folder: ${{run_dir}}
  every_n_steps: {EVERY}
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        place = prepare(Path(folder))
        result = kill_test(place, seed=int(time.time()))
        result |= {
            "sigterm": stop_time(place, signal.SIGTERM),
            "ctrl_c": stop_time(place, signal.SIGINT),
            "full_disk": full_disk(place),
        }
    text = json.dumps(result, indent=2)
    print(text)
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(text + "\n")
    return 0 if result["equal"] else 1


def prepare(place: Path) -> Path:
    """Write the test's own callbacks and their configs, which the run reaches by --config-dir."""
    (place / "kill_support.py").write_text(SUPPORT)
    choices = place / "kill_configs" / "callbacks"
    choices.mkdir(parents=True)
    (choices / "half_written.yaml").write_text(HALF)
    (choices / "full_disk.yaml").write_text(FULL)
    return place


def start(place: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "flowgen", "train", "--config-dir", "kill_configs"]
    return subprocess.Popen(
        [*command, *COMMAND, *words],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A job in the background of a shell ignores SIGINT and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def ran(process: "subprocess.Popen[str]") -> str:
    out = process.communicate(timeout=600)[0]
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}:\n{out}")
    return out


def kill_test(
    place: Path, *, seed: int, kills: int = 5, start: Callable[..., Any] = start
) -> dict[str, Any]:
    """Return the log of the kills, and whether the end is equal to that of a run never stopped.

    ``start`` starts a training in ``place`` with more words, in a process group of its own.
    """
    draw = random.Random(seed)
    begin = time.perf_counter()
    ran(start(place, *QUIET, "run_dir=whole"))
    seconds = time.perf_counter() - begin
    run = place / "killed"
    log: list[dict[str, Any]] = []
    # Apart by more than a checkpoint, so that every session gets beyond the rows of the one before.
    width = (STEPS - 2 * EVERY) // kills
    moments = [EVERY + i * width + draw.randrange(width - EVERY - 5) for i in range(kills)]
    writing = draw.randrange(1, kills)
    for number, moment in enumerate(moments):
        words = ["run_dir=killed", "resume=auto"]
        if number == writing:
            words += ["callbacks=half_written", f"callbacks.checkpoints.pause_at={moment}"]
            how, reached = "while a checkpoint was half written", place / "half_written"
        else:
            words += QUIET
            how, reached = f"about step {moment}", None
        if number == kills - 1:
            words.append("data.num_workers=2")
            how += ", two loader processes"
        before = newest(run)
        process = start(place, *words)
        wait_for(process, lambda r=reached, m=moment: r.exists() if r else step_of(run) >= m)
        time.sleep(draw.uniform(0.0, 0.02))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        log.append(
            {"kill": number + 1, "moment": how, "went_on_from": before, "reached": step_of(run)}
            | {"newest_checkpoint": newest(run), "torn_files": torn(run)}
        )
    told = ran(start(place, *QUIET, "run_dir=killed", "resume=auto"))
    log.append({"went_on_from": newest_of(log), "reached": step_of(run), "torn_files": torn(run)})
    different = differences(place / "whole", run)
    about = json.loads((run / "run.json").read_text())
    return {
        "commit": about["commit"],
        "torch": about["torch"],
        "cores": os.cpu_count(),
        "steps": STEPS,
        "seed": seed,
        "seconds_without_kills": round(seconds, 1),
        "log": log,
        "equal": not different and "going on after step" in told,
        "different": different,
        "sessions": about["sessions"],
    }


def differences(whole: Path, killed: Path) -> list[str]:
    """Return the names of everything that is not equal bit by bit."""
    one, other = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, killed)
    )
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "training")
    found = [name for part in parts for name in unequal(one[part], other[part], part)]
    rows = [losses(run / "metrics.csv") for run in (whole, killed)]
    return found + (["metrics.csv"] if rows[0] != rows[1] else [])


def unequal(one: Any, other: Any, name: str) -> list[str]:
    if isinstance(one, dict):
        if list(one) != list(other):
            return [name]
        return [n for key in one for n in unequal(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [name]
        pairs = enumerate(zip(one, other, strict=True))
        return [n for i, (a, b) in pairs for n in unequal(a, b, f"{name}.{i}")]
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
    else:
        same = one == other
    return [] if same else [name]


def losses(file: Path) -> list[dict[str, str]]:
    with file.open() as opened:
        return [
            {k: v for k, v in row.items() if k in LOSSES or k.startswith("loss/")}
            for row in csv.DictReader(opened)
        ]


def step_of(run: Path) -> int:
    """The last step in metrics.csv."""
    try:
        return int((run / "metrics.csv").read_text().splitlines()[-1].split(",")[0])
    except (OSError, IndexError, ValueError):
        return 0


def newest(run: Path) -> int | None:
    """Step of the newest checkpoint, by the copies beside it."""
    steps = [int(path.stem[5:]) for path in (run / "checkpoints").glob("step_*.ckpt")]
    return max(steps, default=None)


def newest_of(log: list[dict[str, Any]]) -> int | None:
    return log[-1]["newest_checkpoint"]


def torn(run: Path) -> int:
    """Temporary files that a killed writer left."""
    return len(list((run / "checkpoints").glob(".*")))


def wait_for(process: "subprocess.Popen[str]", there: Any, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError(f"the run ended too early:\n{process.communicate()[0]}")
        time.sleep(0.002)


def stop_time(place: Path, signum: signal.Signals) -> dict[str, Any]:
    """Return the seconds from a signal to the exit, the exit code and what was saved."""
    run = place / f"stopped_{signum.name}"
    process = start(place, *QUIET, f"run_dir={run.name}")
    wait_for(process, lambda: step_of(run) >= 30)
    begin = time.perf_counter()
    process.send_signal(signum)
    process.communicate(timeout=60)
    seconds = time.perf_counter() - begin
    status = json.loads((run / "run.json").read_text())["status"]
    return {
        "seconds_to_exit": round(seconds, 3),
        "exit_code": process.returncode,
        "status": status,
        "step": newest(run),
    }


def full_disk(place: Path) -> dict[str, Any]:
    """Return what a disk that is full from the second step on costs a run, and what it says."""
    process = start(place, "callbacks=full_disk", "run_dir=full")
    begin = time.perf_counter()
    out = process.communicate(timeout=600)[0]
    lines = [line for line in out.splitlines() if "cannot be written" in line]
    return {
        "seconds": round(time.perf_counter() - begin, 1),
        "exit_code": process.returncode,
        "steps_taken": step_of(place / "full"),
        "checkpoint_left": newest(place / "full"),
        "torn_files": torn(place / "full"),
        "failed_writes": len(lines),
        "first_line": lines[0] if lines else None,
        "last_line": lines[-1] if lines else None,
    }


if __name__ == "__main__":
    sys.exit(main())
