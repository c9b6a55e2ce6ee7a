"""Every method of `flowgen distill` on Fashion-MNIST, from one teacher, at equal student updates.

    OMP_NUM_THREADS=1 python benchmarks/distillation.py benchmarks/results/distillation.json
    python benchmarks/distillation.py benchmarks/results/distillation.json --table
    python benchmarks/distillation.py benchmarks/results/distillation.json --figure FILE.png

The teacher is a class-conditional transformer of 16 tokens, trained once for each seed by the
recipe below; its run, the pairs of its flow and the students are kept in --runs. Each method has
its own settings but for the number of updates and the batch; methods that draw pairs of the teacher
take them from one set, made before. Measured of 1000 samples at 1, 2, 4 and 8 evaluations,
unguided, against 2000 held-out images: Frechet and kernel distance of EfficientNet-Lite0 features,
precision and recall; beside them the teacher's own Euler steps and its best (50 evaluations);
seconds a step (the median of metrics.csv) and the peak of resident memory of the training, mostly
the interpreter's. What is in the file is not measured again. Two to thirty minutes a method and
seed on one core (those with critics take longest), a quarter of an hour for a teacher; with --gpu a
larger recipe for one GPU.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flowgen.cli import config_dir
from flowgen.core import InputError
from flowgen.data import FashionMNIST
from flowgen.evaluation import ImageDistance, Neighbours, Setting
from flowgen.evaluation.measure import numbers, timed
from flowgen.integrators import Euler, Heun, Sampler, Uniform
from flowgen.pipeline import Pipeline, load
from flowgen.training import few_step

COUNTS = (1, 2, 4, 8)
FIRST = (
    *("velocity_matching", "align_your_flow", "consistency_distillation", "easy_consistency"),
    *("shortcut", "one_step", "reflow", "mean_flow", "dmd", "phased_consistency"),
)
"""Methods that are measured before the others."""

OF_PAIRS = ("reflow", "one_step", "k_step")
"""Methods that learn from pairs of the teacher's flow."""

STARTS = {
    "adversarial": "velocity_matching",
    "truncated_consistency": "easy_consistency",
    "velocity_distillation": "velocity_matching",
}
"""Last stages, and the method whose student each goes on with."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, and for how long."""

    teacher: tuple[str, ...]
    updates: int
    words: tuple[str, ...]
    num_pairs: int


CPU = Recipe(
    teacher=(
        *("data=fashion_mnist", "model=dit_small", "model.patch=7", "model.depth=4"),
        *("model.max_frequency=10", "time_sampler=logit_normal", "data.batch_size=64"),
        *("optimizer.lr=1.5e-3", "trainer.max_steps=4000", "ema_decay=0.998", "trainer=cpu"),
    ),
    updates=500,
    words=("data.batch_size=64", "trainer=cpu", "ema_decay=0.99"),
    num_pairs=8192,
)
GPU = Recipe(
    teacher=("experiment=fashion_mnist_gpu", "model.max_frequency=10"),
    updates=5000,
    words=("data.batch_size=512", "trainer=gpu", "ema_decay=0.999"),
    num_pairs=100_000,
)


def flowgen(*words: str) -> float:
    """Run a command of the program and return its peak of resident memory in MiB."""
    command = [sys.executable, "-m", "flowgen", *words]
    log = Path(os.environ.get("TMPDIR", "/tmp")) / f"flowgen-benchmark-{os.getpid()}.log"  # noqa: S108
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        # Not what the system says at its end: that counts this process, which it was forked from.
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, peak_memory(process.pid))
            time.sleep(0.5)
    if process.returncode:
        raise InputError(f"{' '.join(words)}\n{log.read_text()[-2000:]}")
    log.unlink()
    return peak


def peak_memory(pid: int) -> float:
    """Return the peak of resident memory of a process so far in MiB, 0 where nothing tells."""
    with suppress(OSError), Path(f"/proc/{pid}/status").open() as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def words_for(method: str, runs: Path, recipe: Recipe, seed: int) -> list[str]:
    """Return what a method needs beside its own settings."""
    words = [f"trainer.max_steps={recipe.updates}", f"seed={seed}", *recipe.words]
    if method in OF_PAIRS:
        pairs = runs / f"pairs_{seed}"
        if not pairs.exists():
            flowgen(
                *("make-pairs", f"teacher={runs / f'teacher_{seed}'}", f"out={pairs}"),
                *(f"num_pairs={recipe.num_pairs}", "sampler.num_steps=16"),
            )
        words += ["coupling=made_pairs", f"coupling.folder={pairs}"]
    if method in STARTS:
        trained(STARTS[method], runs, recipe, seed)
        words.append(f"checkpoint={runs / f'{STARTS[method]}_{seed}'}")
    return words


def trained(method: str, runs: Path, recipe: Recipe, seed: int) -> float | None:
    """Distil by one method unless it is done, and return the peak of memory in MiB if it was not.

    A run that was broken off begins anew.
    """
    folder = runs / f"{method}_{seed}"
    if folder.exists():
        if json.loads((folder / "run.json").read_text())["status"] == "finished":
            return None
        shutil.rmtree(folder)
    teacher = runs / f"teacher_{seed}"
    return flowgen(
        *("distill", f"teacher={teacher}", f"distill={method}", f"run_dir={folder}"),
        *words_for(method, runs, recipe, seed),
        *("callbacks=quiet", "table.num_samples=0"),
    )


def quality(setting: Setting, pipeline: Pipeline) -> dict[str, Any]:
    """Return the figures of one way to sample."""
    measures = [ImageDistance(max_reference=2000), Neighbours(max_reference=2000)]
    figures, seconds = timed(measures, setting.of(pipeline))
    found = {k: round(v, 4) for k, v in numbers(figures).items() if not k.endswith("_floor")}
    steps = pipeline.sampler.num_steps
    return {"steps": steps, "nfe": pipeline.nfe(), **found, "sampling_s": round(seconds, 2)}


def teacher_of(runs: Path, recipe: Recipe, seed: int) -> Pipeline:
    """Return the teacher of a seed, trained unless it is there."""
    folder = runs / f"teacher_{seed}"
    if not (folder / "checkpoints" / "last.ckpt").exists():
        flowgen("train", *recipe.teacher, f"seed={seed}", f"run_dir={folder}", "callbacks=quiet")
    return load(folder)


def setting_of(teacher: Pipeline, num_samples: int) -> Setting:
    """Return what all are measured in: real images are looked at once."""
    return Setting(teacher, FashionMNIST(), num_samples, 0, 256)


def teacher_rows(teacher: Pipeline, setting: Setting) -> list[dict[str, Any]]:
    """Return the figures of the teacher's Euler steps, and of its best."""
    samplers = [Sampler(Euler(), Uniform(), n) for n in COUNTS]
    samplers.append(Sampler(Heun(), Uniform(), 25))
    return [quality(setting, teacher.with_sampler(sampler)) for sampler in samplers]


def distilled(
    method: str, seed: int, runs: Path, recipe: Recipe, setting: Setting
) -> dict[str, Any]:
    """Distil by one method and return its figures."""
    folder = runs / f"{method}_{seed}"
    memory = trained(method, runs, recipe, seed)
    with (folder / "metrics.csv").open() as file:
        times = [float(row["ms/step"]) for row in csv.DictReader(file) if row.get("ms/step")]
    students = few_step(load(folder), list(COUNTS))
    return {
        "rows": [quality(setting, student) for student in students],
        "seconds_per_step": round(statistics.median(times) / 1e3, 4),
        "peak_memory_mib": None if memory is None else round(memory),
        "sampler": type(students[0].sampler.stepper).__name__,
    }


def distance_of(content: dict[str, Any]) -> str:
    """Return the name of the Frechet distance in a file."""
    first = next(iter(content["teacher"].values()))[0]
    return next(key for key in first if key.startswith("fd_"))


def cell(values: Sequence[float], digits: int = 0) -> str:
    """Return mean and half the range of a figure over seeds."""
    told = f"{statistics.mean(values):.{digits}f}"
    spread = (max(values) - min(values)) / 2
    return told if len(values) == 1 else f"{told} ± {spread:.{digits}f}"


def at(runs: dict[str, Any], nfe: int) -> list[dict[str, Any]]:
    """Return the figures of all seeds at a number of evaluations."""
    return [row for run in runs.values() for row in run["rows"] if row["nfe"] == nfe]


def mean(rows: list[dict[str, Any]], key: str) -> float:
    """Return the mean of a figure."""
    return statistics.mean(row[key] for row in rows)


def by_first(item: tuple[str, Any], name: str) -> float:
    """Return what methods are sorted by: their distance at one evaluation, if they have one."""
    found = at(item[1], 1)
    return mean(found, name) if found else float("inf")


def cells_of(runs: dict[str, Any], teachers: dict[str, Any], name: str, digits: int) -> list[str]:
    """Return a figure at each number of evaluations, with a star where the teacher's is as good."""
    cells = []
    beside = {seed: teachers[seed] for seed in runs}
    for n in COUNTS:
        found = at(runs, n)
        worse = found and runs is not teachers and mean(found, name) > mean(at(beside, n), name)
        told = cell([row[name] for row in found], digits) if found else ""
        cells.append(told + (" *" if worse else ""))
    return cells


def table(content: dict[str, Any]) -> str:
    """Return two tables in Markdown, of both distances, sorted by the first at one evaluation."""
    name = distance_of(content)
    teachers = {seed: {"rows": rows} for seed, rows in content["teacher"].items()}
    most = max(row["nfe"] for row in next(iter(teachers.values()))["rows"])
    methods = sorted(content["methods"].items(), key=lambda item: by_first(item, name))

    def near(rows: list[dict[str, Any]]) -> str:
        return f"{mean(rows, 'precision'):.2f}, {mean(rows, 'recall'):.2f}" if rows else ""

    head = [f"FD at {n}" for n in COUNTS] + ["precision, recall at 1", "s/step", "MiB"]
    lines = ["| method | " + " | ".join(head) + " |", "| --- |" + " --- |" * len(head)]
    plain = cells_of(teachers, teachers, name, 0)
    lines.append(f"| teacher, Euler | {' | '.join(plain)} | {near(at(teachers, 1))} | | |")
    for method, runs in methods:
        cells = [*cells_of(runs, teachers, name, 0), near(at(runs, 1))]
        cells.append(f"{statistics.mean(run['seconds_per_step'] for run in runs.values()):.2f}")
        memory = [run["peak_memory_mib"] for run in runs.values() if run["peak_memory_mib"]]
        cells.append(f"{statistics.mean(memory):.0f}" if memory else "")
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    lines.append(
        f"\nThe teacher with {most} evaluations: FD {cell([r[name] for r in at(teachers, most)])}, "
        f"precision and recall {near(at(teachers, most))}. A star: not better than the teacher's "
        "own Euler steps at the same number of evaluations.\n"
    )
    kernel = name.replace("fd_", "kd_")
    head = [f"KD at {n}" for n in COUNTS]
    lines += ["| method | " + " | ".join(head) + " |", "| --- |" + " --- |" * len(head)]
    lines.append(f"| teacher, Euler | {' | '.join(cells_of(teachers, teachers, kernel, 1))} |")
    for method, runs in methods:
        lines.append(f"| `{method}` | {' | '.join(cells_of(runs, teachers, kernel, 1))} |")
    best = cell([r[kernel] for r in at(teachers, most)], 1)
    lines.append(f"\nThe teacher with {most} evaluations: KD {best}.")
    return "\n".join(lines)


def draw(content: dict[str, Any], file: Path) -> None:
    """Draw the mean distance by evaluations of the best methods, and the teacher's."""
    from matplotlib.figure import Figure

    name = distance_of(content)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    teachers = {seed: {"rows": rows} for seed, rows in content["teacher"].items()}
    most = max(row["nfe"] for row in next(iter(teachers.values()))["rows"])

    def line(runs: dict[str, Any]) -> tuple[list[int], list[float]]:
        counts = [n for n in COUNTS if at(runs, n)]
        return counts, [mean(at(runs, n), name) for n in counts]

    axes.plot(*line(teachers), "k--", label="teacher, Euler")
    axes.axhline(mean(at(teachers, most), name), color="0.6", label=f"teacher, {most} evaluations")
    methods = sorted(content["methods"].items(), key=lambda item: by_first(item, name))
    for method, runs in methods[:8]:
        axes.plot(*line(runs), "o-", ms=3, label=method)
    axes.set(xscale="log", xlabel="evaluations", ylabel="Frechet distance, EfficientNet-Lite0")
    axes.set_xticks(COUNTS, [str(n) for n in COUNTS])
    axes.minorticks_off()
    axes.legend(fontsize=7)
    figure.savefig(file, dpi=140)


def main() -> None:
    """Measure what the file has not yet, or show what it has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation_benchmark"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--methods", nargs="*", help="only these")
    parser.add_argument("--num-samples", type=int, default=1000)
    parser.add_argument("--updates", type=int, help="of a student, in place of the recipe's")
    parser.add_argument("--gpu", action="store_true", help="the larger recipe, for one GPU")
    parser.add_argument("--table", action="store_true", help="print the table of the file")
    parser.add_argument("--figure", type=Path, help="draw the file")
    arguments = parser.parse_args()
    content: dict[str, Any] = {"methods": {}}
    if arguments.file.exists():
        content = json.loads(arguments.file.read_text())
    if arguments.table:
        print(table(content))
        return
    if arguments.figure:
        draw(content, arguments.figure)
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    recipe = GPU if arguments.gpu else CPU
    recipe = replace(recipe, updates=arguments.updates or recipe.updates)
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    runs: Path = arguments.runs
    content |= {"updates": recipe.updates, "num_samples": arguments.num_samples}

    def write() -> None:
        arguments.file.write_text(json.dumps(content, indent=1) + "\n")

    known = sorted(file.stem for file in (config_dir() / "distill").glob("*.yaml"))
    wanted = arguments.methods or [*FIRST, *(name for name in known if name not in FIRST)]
    for seed in arguments.seeds:
        teacher = teacher_of(runs, recipe, seed)
        setting = setting_of(teacher, arguments.num_samples)
        teachers = content.setdefault("teacher", {})
        if str(seed) not in teachers:
            teachers[str(seed)] = teacher_rows(teacher, setting)
            write()
        for method in wanted:
            found = content["methods"].setdefault(method, {})
            if str(seed) in found:
                continue
            try:
                found[str(seed)] = distilled(method, seed, runs, recipe, setting)
            except InputError as error:
                if not found:
                    del content["methods"][method]
                print(f"{method}, seed {seed}: {error}", file=sys.stderr, flush=True)
                continue
            found[str(seed)]["commit"] = commit
            write()
            told = [
                next(v for k, v in r.items() if k[:3] == "fd_") for r in found[str(seed)]["rows"]
            ]
            print(f"{method}, seed {seed}: {told}", flush=True)


if __name__ == "__main__":
    main()
