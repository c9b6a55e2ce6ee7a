"""The digits demo made few-step by three methods, and their single steps as a picture.

    python benchmarks/students_of_digits.py TEACHER FIGURE.png --runs FOLDER

TEACHER is a run of `flowgen train experiment=digits`. Each student is made by the command
`flowgen distill teacher=TEACHER distill=<method>` with its own settings; students that are in
FOLDER are not made again. The picture has a column for each digit and, from the same noise: the
teacher with 50 evaluations, its single Euler step, and the single step of each student.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from flowgen.cli import main as flowgen
from flowgen.core import InputError
from flowgen.integrators import Euler, Heun, Sampler, Uniform
from flowgen.pipeline import load
from flowgen.training import few_step

METHODS = ("align_your_flow", "velocity_matching", "improved_mean_flow")
COLUMNS = 20


def rows(teacher: str, runs: Path) -> dict[str, Tensor]:
    """Return images uint8 ``(20, 1, 8, 8)`` by what drew them, students made where missing."""
    own = load(teacher, device="cpu")
    found = {
        "teacher, 50 evaluations": own.with_sampler(Sampler(Heun(), Uniform(), 25)),
        "teacher, 1 Euler step": own.with_sampler(Sampler(Euler(), Uniform(), 1)),
    }
    for method in METHODS:
        folder = runs / method
        if not folder.exists() and flowgen(
            ["distill", f"teacher={teacher}", f"distill={method}", f"run_dir={folder}"]
        ):
            raise InputError(f"{method} failed")
        [found[f"{method}, 1 step"]] = few_step(load(folder, device="cpu"), [1])
    return {name: pipeline.sample(COLUMNS, seed=3) for name, pipeline in found.items()}


def draw(images: dict[str, Tensor], file: Path) -> None:
    """Draw the images in rows with their names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.62 * len(images)), layout="constrained")
    for axes, (name, row) in zip(
        figure.subplots(len(images), 1, squeeze=False).flatten(), images.items(), strict=True
    ):
        strip = torch.cat(list(torch.nn.functional.pad(row[:, 0], (1, 1), value=255)), dim=1)
        axes.imshow(strip.numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    figure.savefig(file, dpi=130)


def main() -> None:
    """Make students and picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("teacher")
    parser.add_argument("figure", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/students_of_digits"))
    arguments = parser.parse_args()
    draw(rows(arguments.teacher, arguments.runs), arguments.figure)


if __name__ == "__main__":
    main()
