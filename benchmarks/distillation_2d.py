"""Every method of `flowgen distill` from one teacher in the plane, at equal student updates.

    OMP_NUM_THREADS=1 python benchmarks/distillation_2d.py benchmarks/results/distillation_2d.json
    python benchmarks/distillation_2d.py benchmarks/results/distillation_2d.json --table

Trains the recipe `experiment=moons` once, then each method with its own settings but for the number
of updates, and keeps the rows of the table that a distillation ends with: distance to where the
teacher takes the same noise (root mean square) and 2-Wasserstein distance of 1000 samples to
held-out data. A method that is in the file already is not run again. About half a minute a method
and seed on one core. The methods that learn from data alone start from the teacher's weights too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from flowgen.cli import config_dir

LAST_STAGES = {"adversarial"}
"""Methods that improve a student, and have a teacher of another kind."""

GUIDED = {"mean_flow_guided"}
"""Methods that need labels, which these data have not."""

WORDS = {"latent_consistency": ["coupling=exact_assignment"]}
"""What methods need that pair by labels, which these data have not."""


def flowgen(*words: str) -> None:
    """Run a command of the program; its output is shown where it fails."""
    command = [sys.executable, "-m", "flowgen", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}\n{done.stderr}")


def measured(teacher: Path, method: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """Return the rows of one distillation."""
    with tempfile.TemporaryDirectory() as folder:
        flowgen(
            *("distill", f"teacher={teacher}", f"distill={method}", f"run_dir={folder}/run"),
            *(f"trainer.max_steps={steps}", f"seed={seed}", "trainer=cpu", "callbacks=quiet"),
            *WORDS.get(method, []),
        )
        return json.loads((Path(folder) / "run" / "few_steps.json").read_text())["rows"]


def table(content: dict[str, Any]) -> str:
    """Return a table in Markdown: W2 and distance to the teacher by evaluations."""
    counts = ["1", "2", "4", "8"]
    lines = [
        "| method | " + " | ".join(f"W2 at {n}" for n in counts) + " | error at 1 |",
        "| --- |" + " --- |" * (len(counts) + 1),
    ]

    def line(name: str, rows: list[dict[str, Any]]) -> str:
        by_count = {str(row["nfe"]): row for row in rows}
        cells = [f"{by_count[n]['w2']:.3f}" if n in by_count else "" for n in counts]
        error = f"{by_count['1']['rmse_to_teacher']:.3f}" if "1" in by_count else ""
        return f"| {name} | " + " | ".join([*cells, error]) + " |"

    first = next(iter(content["methods"].values()))
    teacher = [row for row in first if row["sampler"] == "teacher"]
    lines.append(line("teacher, Euler", teacher))
    for method, rows in content["methods"].items():
        lines.append(line(f"`{method}`", [row for row in rows if row["sampler"] == "student"]))
    best = next(row for row in first if row["sampler"] == "teacher, best")
    lines.append(f"\nThe teacher itself with {best['nfe']} evaluations: W2 {best['w2']:.3f}.")
    return "\n".join(lines)


def main() -> None:
    """Measure what the file has not yet, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=1500, help="updates of each student")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", help="only these")
    parser.add_argument("--table", action="store_true", help="print the table of the file")
    arguments = parser.parse_args()
    content: dict[str, Any] = {"methods": {}}
    if arguments.file.exists():
        content = json.loads(arguments.file.read_text())
    if arguments.table:
        print(table(content))
        return
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    content |= {"commit": commit, "steps": arguments.steps, "seed": arguments.seed}
    known = sorted(file.stem for file in (config_dir() / "distill").glob("*.yaml"))
    wanted = arguments.methods or [name for name in known if name not in LAST_STAGES | GUIDED]
    with tempfile.TemporaryDirectory() as folder:
        teacher = Path(folder) / "teacher"
        flowgen("train", "experiment=moons", f"run_dir={teacher}", "callbacks=quiet", "trainer=cpu")
        for method in wanted:
            if method in content["methods"]:
                continue
            rows = measured(teacher, method, arguments.steps, arguments.seed)
            content["methods"][method] = rows
            arguments.file.write_text(json.dumps(content, indent=2) + "\n")
            print(f"{method}: {[round(row['w2'], 3) for row in rows]}", flush=True)


if __name__ == "__main__":
    main()
