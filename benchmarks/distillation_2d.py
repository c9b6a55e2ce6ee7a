"""Every method of `flowgen distill` from one teacher in the plane, at equal student updates.

    OMP_NUM_THREADS=1 python benchmarks/distillation_2d.py benchmarks/results/distillation_2d.json
    python benchmarks/distillation_2d.py benchmarks/results/distillation_2d.json --table

Trains the recipe `experiment=moons` once, then each method with its own settings but for the number
of updates, and keeps the rows of the table that a distillation ends with: distance to where the
teacher takes the same noise (root mean square) and 2-Wasserstein distance of 1000 samples to
held-out data. A method that is in the file already is not run again. About half a minute a method
and seed on one core. The methods that learn from data alone start from the teacher's weights too,
last stages from a student that has had as many updates.

    OMP_NUM_THREADS=1 python benchmarks/distillation_2d.py FILE --exact --steps 1000
    python benchmarks/distillation_2d.py FILE --exact --table

With ``--exact`` the data are an ellipse and a mixture, whose exact flow map under the linear path
with independent pairs is known, each with a teacher of the same recipe; errors are root mean square
distances to the exact ``X(x_0, 0, 1)``, the teacher's own included.
"""

import argparse
import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from distillation import STARTS
from torch import Tensor

from flowgen.cli import config_dir
from flowgen.cli import main as main_of_flowgen
from flowgen.data import Mixture
from flowgen.integrators import RK4, Euler, Heun, Sampler, Uniform, integrate
from flowgen.metrics import rmse
from flowgen.pipeline import Pipeline, load
from flowgen.training import few_step

GUIDED = {"mean_flow_guided", "improved_mean_flow_guided"}
"""Methods that need labels, which these data have not."""

WORDS = {"latent_consistency": ["coupling=exact_assignment"]}
"""What methods need that pair by labels, which these data have not."""

COUNTS = (1, 2, 4, 8)
NUM_POINTS, RK4_STEPS = 2000, 400
"""Noise points that an error is the mean of; steps of the exact map of a mixture, in float64."""


class Ellipse:
    """A Gaussian in the plane: standard deviations along axes turned by ``angle`` degrees."""

    def __init__(self, mean: Sequence[float], stds: Sequence[float], angle: float) -> None:
        c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        self.axes = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        self.mean = torch.tensor(list(mean), dtype=torch.float64)
        self.stds = torch.tensor(list(stds), dtype=torch.float64)
        self.shape = (2,)

    def sample(self, n: int, *, generator: Any = None, device: Any = None) -> Tensor:
        """Return ``n`` points ``(n, 2)``, float32."""
        return self.flow(torch.randn(n, 2, generator=generator, device=device).double()).float()

    def flow(self, x: Tensor, s: float = 0.0, t: float = 1.0) -> Tensor:
        """Return the exact ``X(x, s, t)`` of ``x (n, 2)`` in float64.

        Along an axis ``x_t`` has the variance ``V_t = t^2 std^2 + (1 - t)^2``, and the map is
        ``sqrt(V_t / V_s)`` about the mean ``t mean``.
        """
        spread_s, spread_t = ((r**2 * self.stds.square() + (1 - r) ** 2).sqrt() for r in (s, t))
        z = (x.double() - s * self.mean) @ self.axes
        return t * self.mean + (z * spread_t / spread_s) @ self.axes.mT


def mixture_velocity(mixture: Mixture, x: Tensor, t: Tensor) -> Tensor:
    """Return the marginal velocity of the linear path from N(0, I) to a mixture, in float64.

    Given component k, ``x_t`` has mean ``t m_k`` and variance ``V_k = t^2 s_k^2 + (1 - t)^2``, so
    ``E[x_1 - x_0 | x_t = x, k] = m_k + (t s_k^2 - (1 - t)) (x - t m_k) / V_k``; components count by
    their posterior.
    """
    t = t.double()[:, None]
    variance = t**2 * mixture.stds**2 + (1 - t) ** 2
    apart = x.double()[:, None] - t[..., None] * mixture.means
    log_joint = mixture.weights.log() - variance.log() - 0.5 * apart.square().sum(2) / variance
    slope = (t * mixture.stds**2 - (1 - t)) / variance
    given = mixture.means + slope[..., None] * apart
    return (log_joint.softmax(1)[..., None] * given).sum(1)


def mixture_flow(mixture: Mixture, x: Tensor, steps: int = RK4_STEPS) -> Tensor:
    """Return ``X(x, 0, 1)`` of ``x (n, 2)`` by many steps of RK4 in float64."""
    nodes = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return integrate(RK4(), lambda y, t, cond=None: mixture_velocity(mixture, y, t), x, nodes)


ELLIPSE: dict[str, Any] = {"mean": [0.5, -0.3], "stds": [2.0, 0.5], "angle": 30.0}

MIXTURE: dict[str, Any] = {
    "means": [[-2.0, 0.0], [2.0, 1.0], [0.0, -2.0]],
    "stds": [0.4, 0.7, 0.5],
    "weights": [0.5, 0.3, 0.2],
}
"""As in ``configs/data/mixture.yaml``."""

EXACT: dict[str, tuple[list[str], Callable[[Tensor], Tensor]]] = {
    "ellipse": (
        [
            *("data=mixture", "data.name=ellipse"),
            "data.distribution._target_=distillation_2d.Ellipse",
            *("~data.distribution.means", "~data.distribution.weights"),
            f"data.distribution.stds={ELLIPSE['stds']}",
            *(f"+data.distribution.{name}={ELLIPSE[name]}" for name in ("mean", "angle")),
        ],
        Ellipse(**ELLIPSE).flow,
    ),
    "mixture": (
        ["data=mixture", *(f"data.distribution.{k}={v}" for k, v in MIXTURE.items())],
        lambda x: mixture_flow(Mixture(**MIXTURE), x),
    ),
}
"""Words that choose the data, and where the exact flow takes noise."""


def flowgen(*words: str) -> None:
    """Run a command of the program in this process; its output is shown where it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        failed = main_of_flowgen(words)
    if failed:
        sys.exit(f"{' '.join(words)}\n{said.getvalue()}")


def distil(folder: str, teacher: Path, method: str, steps: int, seed: int, *words: str) -> Path:
    """Distil a teacher below ``folder`` and return the run folder."""
    run = Path(folder) / method
    start = STARTS.get(method)
    if start is not None:
        words = (*words, f"checkpoint={distil(folder, teacher, start, steps, seed, *words)}")
    flowgen(
        *("distill", f"teacher={teacher}", f"distill={method}", f"run_dir={run}"),
        *(f"trainer.max_steps={steps}", f"seed={seed}", "trainer=cpu", "callbacks=quiet"),
        *WORDS.get(method, []),
        *words,
    )
    return run


def measured(teacher: Path, method: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """Return the rows of one distillation."""
    with tempfile.TemporaryDirectory() as folder:
        run = distil(folder, teacher, method, steps, seed)
        return json.loads((run / "few_steps.json").read_text())["rows"]


def errors(pipelines: Sequence[Pipeline], ends: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Return the distance to the exact map by evaluations; none where noise is put in between."""
    found: dict[str, float] = {}
    for one in pipelines:
        if one.sampler.num_steps == 1 or not one.sampler.stochastic:
            if not torch.equal(noise_of(one), ends[0]):
                sys.exit("teacher and student begin with different noise")
            x_1 = one.sample(NUM_POINTS, seed=0, chunk=NUM_POINTS, decode=False)
            found[str(one.nfe())] = rmse(x_1, ends[1])
    return found


def noise_of(pipeline: Pipeline) -> Tensor:
    """Return what the samples of seed 0 begin with."""
    return pipeline.noise(0, range(NUM_POINTS)) * pipeline.initial_scale


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


def exact_table(content: dict[str, Any]) -> str:
    """Return a table in Markdown: distance to the exact map by task and evaluations."""
    tasks = content["tasks"]
    columns = [(task, str(count)) for task in tasks for count in COUNTS]
    lines = [
        "| method | " + " | ".join(f"{task}, {count}" for task, count in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for name in dict.fromkeys(name for rows in tasks.values() for name in rows):
        if name != "teacher, best":
            cells = [tasks[task].get(name, {}).get(count) for task, count in columns]
            shown = ["" if cell is None else f"{cell:.3f}" for cell in cells]
            label = name if name.startswith("teacher") else f"`{name}`"
            lines.append(f"| {label} | " + " | ".join(shown) + " |")
    best = [f"{next(iter(rows['teacher, best'].values())):.3f} ({t})" for t, rows in tasks.items()]
    lines.append(f"\nThe teacher itself with 50 evaluations: {', '.join(best)}.")
    return "\n".join(lines)


def run_exact(arguments: argparse.Namespace, content: dict[str, Any], methods: list[str]) -> None:
    """Measure against the exact maps what the file has not yet, method by method."""
    content |= {"teacher": "experiment=moons", "num_points": NUM_POINTS, "rk4_steps": RK4_STEPS}
    content |= {"ellipse": ELLIPSE, "mixture": MIXTURE}
    tasks = content.setdefault("tasks", {})
    wanted = [name for name in EXACT if name in (arguments.tasks or EXACT)]
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.teachers or Path(folder)

        def keep(task: str, name: str, found: dict[str, float]) -> None:
            tasks.setdefault(task, {})[name] = found
            arguments.file.write_text(json.dumps(content, indent=2) + "\n")
            print(f"{task}, {name}: {found}", flush=True)

        ends: dict[str, tuple[Tensor, Tensor]] = {}
        for task in wanted:
            words, flow = EXACT[task]
            if not (place / task).exists():
                settings = [f"run_dir={place / task}", "callbacks=quiet", "trainer=cpu"]
                flowgen("train", "experiment=moons", *words, *settings)
            teacher = load(place / task)
            ends[task] = (noise_of(teacher), flow(noise_of(teacher).double()))
            euler = [teacher.with_sampler(Sampler(Euler(), Uniform(), n)) for n in COUNTS]
            keep(task, "teacher, Euler", errors(euler, ends[task]))
            best = teacher.with_sampler(Sampler(Heun(), Uniform(), 25))
            keep(task, "teacher, best", errors([best], ends[task]))
        for method in methods:
            for task in wanted:
                if method not in tasks[task]:
                    where = (tempfile.mkdtemp(dir=folder), place / task, method)
                    run = distil(*where, arguments.steps, arguments.seed, "table.num_samples=0")
                    keep(task, method, errors(few_step(load(run), COUNTS), ends[task]))


def main() -> None:
    """Measure what the file has not yet, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--steps", type=int, default=1500, help="updates of each student")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", help="only these")
    parser.add_argument("--exact", action="store_true", help="errors to exact maps, two tasks")
    parser.add_argument("--tasks", nargs="*", choices=sorted(EXACT), help="of --exact, only these")
    parser.add_argument("--teachers", type=Path, help="of --exact: kept here for another call")
    parser.add_argument("--table", action="store_true", help="print the table of the file")
    arguments = parser.parse_args()
    content: dict[str, Any] = {} if arguments.exact else {"methods": {}}
    if arguments.file.exists():
        content = json.loads(arguments.file.read_text())
    if arguments.table:
        print(exact_table(content) if arguments.exact else table(content))
        return
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    made = {key: content.get(key, value) for key, value in vars(arguments).items()}
    if arguments.exact and (made["steps"], made["seed"]) != (arguments.steps, arguments.seed):
        sys.exit(f"{arguments.file} was made with steps {made['steps']}, seed {made['seed']}")
    content |= {"commit": commit, "steps": arguments.steps, "seed": arguments.seed}
    known = sorted(file.stem for file in (config_dir() / "distill").glob("*.yaml"))
    wanted = arguments.methods or [name for name in known if name not in GUIDED]
    if arguments.exact:
        run_exact(arguments, content, wanted)
        return
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
