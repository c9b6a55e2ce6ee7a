"""Training on latents beside training on pixels, at equal operations of the transformer.

    OMP_NUM_THREADS=1 python benchmarks/latents.py FILE.json --picture docs/images/latents.png
    python benchmarks/latents.py FILE.json --table

Emoji of 32 x 32 pixels by two artists, a category as label. One transformer (`model=dit_small`) is
trained on pixels in patches of 4 (64 tokens) and of 2 (256 tokens), and on the latents of an
autoencoder that was trained here too (4 x 8 x 8, 64 tokens). Each row gets --budget operations of
forward and backward passes (three times those of an evaluation), and so other numbers of steps. The
autoencoder's own training comes on top: its operations and seconds are told beside. Measured of 500
samples against the held-out pictures: Frechet and kernel distance of EfficientNet-Lite0 features.
What is in the file is not measured again; runs are kept in --runs.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from flowgen.cli.automatic import evaluation_operations
from flowgen.pipeline import load

BATCH = 64
DATA = ("data=emoji", "data.styles=[twemoji,openmoji]")
TRAINED = (
    *("model=dit_small", "model.max_frequency=10", f"data.batch_size={BATCH}", "conditional=label"),
    *("optimizer.lr=1e-3", "ema_decay=0.995", "compile=false", "callbacks=quiet", "threads=1"),
)
ROWS = {
    "pixels, patches of 4": (*DATA, "model.patch=4"),
    "pixels, patches of 2": (*DATA, "model.patch=2"),
    "latents": ("data=latents", "data.folder={latents}", "model.patch=1"),
}


def flowgen(*words: str) -> tuple[float, str]:
    """Run a command of the program; return its seconds and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flowgen", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stderr[-2000:]}")
    return round(time.perf_counter() - start, 1), done.stdout


def autoencoder(runs: Path, steps: int) -> dict[str, Any]:
    """Train the autoencoder, encode the data, and return what that took."""
    folder = runs / "autoencoder"
    seconds, told = flowgen(
        "train-autoencoder", *DATA, f"trainer.max_steps={steps}", f"out={folder}", "threads=1"
    )
    flowgen("encode", *DATA, f"autoencoder={folder}", f"out={runs / 'latents'}")
    network = AutoencoderKL.from_pretrained(folder)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    return {
        "steps": steps,
        "operations": 3 * BATCH * steps * counter.get_total_flops(),
        "seconds": seconds,
        "told": [line for line in told.splitlines() if " dB" in line],
    }


def row(name: str, runs: Path, budget: float, num_samples: int) -> dict[str, Any]:
    """Train one model within the budget and measure it."""
    words = [word.format(latents=runs / "latents") for word in ROWS[name]]
    folder = runs / name.replace(" ", "_").replace(",", "")
    probe = folder.with_name(f"{folder.name}_probe")
    if not probe.exists():
        flowgen("train", *words, *TRAINED, "trainer.max_steps=1", f"run_dir={probe}")
    each = 3 * BATCH * evaluation_operations(load(probe))
    steps = round(budget / each)
    flowgen(
        *("train", *words, *TRAINED, f"trainer.max_steps={steps}", f"run_dir={folder}"),
        "resume=auto",
    )
    # Of its steps, not of the call: that may find a part of them done.
    with (folder / "metrics.csv").open() as log:
        times = [float(each["ms/step"]) for each in csv.DictReader(log) if each.get("ms/step")]
    seconds = round(steps * statistics.median(times) / 1e3, 1)
    file = folder / "distance.json"
    evaluate = ("evaluate", f"checkpoint={folder}", f"num_samples={num_samples}", f"out={file}")
    flowgen(*evaluate, "measures=[image_distance]", "guidance.scale=1.5")
    figures = json.loads(file.read_text())["figures"]["distance to held-out images"]
    measured = {key: round(value, 3) for key, value in figures.items() if key[:3] in ("fd_", "kd_")}
    return {"steps": steps, "operations_per_step": each, "seconds": seconds, **measured}


def table(content: dict[str, Any]) -> str:
    """Return the rows in Markdown."""
    rows = content["rows"]
    keys = [key for key in next(iter(rows.values())) if key not in ("operations_per_step",)]
    lines = ["| | " + " | ".join(keys) + " |", "| --- |" + " --- |" * len(keys)]
    for name, found in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{found[key]:.4g}" for key in keys) + " |")
    return "\n".join(lines)


def picture(runs: Path, file: Path) -> None:
    """Draw a row of samples of each model, from the same labels and seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.1 * len(ROWS)))
    grid = figure.subplots(len(ROWS), 9, squeeze=False)
    for axes_row, name in zip(grid, ROWS, strict=True):
        model = load(runs / name.replace(" ", "_").replace(",", "")).guided(1.5)
        for axes, image in zip(axes_row, model.sample(9, seed=3), strict=True):
            axes.imshow(image.permute(1, 2, 0).numpy())
            axes.set_axis_off()
        axes_row[0].text(-0.15, 0.5, name, transform=axes_row[0].transAxes, ha="right", fontsize=8)
    figure.savefig(file, dpi=100, bbox_inches="tight")


def main() -> None:
    """Measure what the file has not yet, or show what it has."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/latents_benchmark"))
    parser.add_argument("--budget", type=float, default=3e13, help="operations of each row")
    parser.add_argument("--autoencoder-steps", type=int, default=1000)
    parser.add_argument("--num-samples", type=int, default=500)
    parser.add_argument("--table", action="store_true", help="print the table of the file")
    parser.add_argument("--picture", type=Path, help="draw samples of the runs")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.file.read_text())))
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    runs: Path = arguments.runs
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    content: dict[str, Any] = {"commit": commit, "budget": arguments.budget, "rows": {}}
    if arguments.file.exists():
        content = json.loads(arguments.file.read_text())
    runs.mkdir(parents=True, exist_ok=True)
    if "autoencoder" not in content:
        content["autoencoder"] = autoencoder(runs, arguments.autoencoder_steps)
        arguments.file.write_text(json.dumps(content, indent=1) + "\n")
    for name in ROWS:
        if name not in content["rows"]:
            found = row(name, runs, arguments.budget, arguments.num_samples)
            content["rows"][name] = found
        arguments.file.write_text(json.dumps(content, indent=1) + "\n")
    if arguments.picture:
        picture(runs, arguments.picture)


if __name__ == "__main__":
    main()
