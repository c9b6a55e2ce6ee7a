"""From data to data without pairs: flows, reflow and Monge maps, scored where the truth is known.

    OMP_NUM_THREADS=1 python benchmarks/domain_transfer.py benchmarks/results/domain_transfer.json
    python benchmarks/domain_transfer.py benchmarks/results/domain_transfer.json --table
    OMP_NUM_THREADS=1 python benchmarks/domain_transfer.py OUT --emoji-steps 20 --cell-steps 20

Emoji (`emoji`): pictures of Twemoji are carried to OpenMoji. The same emoji by both artists is a
true pair. No method is told: source and data are shuffled apart, and measured is on captions that
neither side has trained on; `found_in_ten` is the share whose partner is among the ten images of
all partners nearest to the result, `mse` is of numbers from 0 to 1. Cells (`cells`): monocytes are
carried to dendritic cells; cells have no partners, so sets are compared with held-out cells;
`cells_short` has a tenth of the steps, for there are only 90 and 168 cells to train on. Contexts
(`contexts`): monocytes to three types by one model that is told the type; figures are means over
the types.

Methods of one task and seed have networks of one kind, first weights and number of steps; a Monge
map of emoji or contexts has larger batches. Reflow goes on from its teacher's weights, for as many
steps again, on one pair of each training source; its seconds contain the teacher's training. Flows
are sampled by 10 steps of Heun and by one of Euler ("1 step"), Monge maps in one jump. The last
weights are measured, AdamW with a cosine to 0. Cost is the mean square of the way (of emoji for
each number), the relative gap is the share of it that a better assignment of the ends would save.
The picture has held-out emoji of the first seed, a row each: source, truth, independent flow, OT
flow, its reflow in one step, Monge map of weight 1.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgen import __version__
from flowgen.core import Pair, generator_for
from flowgen.couplings import ClassAssignment, ExactAssignment, Independent
from flowgen.data import CellData, DataSource, EmojiData
from flowgen.distill import MongeMap
from flowgen.integrators import Euler, Heun, Jump, Sampler, Uniform
from flowgen.metrics import energy_distance, exact_w2, map_cost, psnr
from flowgen.models import MLP, PredictionField, SegmentField
from flowgen.objectives import FlowMatching
from flowgen.objectives import Uniform as UniformTimes
from flowgen.paths import AffinePath, Linear, Velocity
from flowgen.pipeline.images import grid, save_image

MONOCYTES, DENDRITIC = "CD14+ Monocyte", "Dendritic"
CONTEXTS = (DENDRITIC, "CD19+ B", "CD56+ NK")
HEUN, EULER = Sampler(Heun(), Uniform(), 10), Sampler(Euler(), Uniform(), 1)
PICTURED = ("flow, independent", "flow, OT batches", "flow, OT batches, reflow, 1 step")
PICTURED = (*PICTURED, "Monge map, weight 1")
JUMP = Sampler(Jump(), Uniform(), 1)

Draw = Callable[[int, torch.Generator], Pair]
"""Returns so many pairs of source and data, drawn independently."""


class Task:
    """Source, data, network and sizes of one task; everything encoded, in memory."""

    def __init__(self, name: str, source: Any, data: Any, steps: int, batch: int, large: int):
        self.name, self.steps, self.batch, self.large = name, steps, batch, large
        self.codec = data.codec
        encode = self.codec.encode
        self.source = DataSource(self.codec.encoded_shape(data.shape))
        self.source.use(source, self.codec)
        whole = data.train.__getitems__(range(len(data.train)))
        self.x_1, self.label = (
            encode(whole["x_1"]),
            whole.get("label") if name == "contexts" else None,
        )
        self.start = self.source.of_training(0).rows(range(len(source.train)))
        test = data.test.__getitems__(range(len(data.test)))
        self.test_1, self.test_label = encode(test["x_1"]), test.get("label")
        self.test_0 = self.source.rows(range(self.source.count))

    def network(self, seed: int) -> nn.Module:
        """Return the first weights of a seed, the same for all methods."""
        torch.manual_seed(seed)
        classes = None if self.label is None else len(CONTEXTS)
        width = 256 if self.name == "emoji" else 128
        return MLP(list(self.source.shape), classes, width=width, depth=3)

    def draw(self, n: int, generator: torch.Generator) -> Pair:
        """Return independent rows of both sides."""
        rows = torch.randint(len(self.x_1), (n,), generator=generator)
        cond = None if self.label is None else {"label": self.label[rows]}
        return Pair(self.source.sample(n, generator=generator), self.x_1[rows], cond)

    def starts(self) -> tuple[Tensor, Any]:
        """Return the training source, with labels once for each context."""
        if self.label is None:
            return self.start, None
        label = torch.arange(len(CONTEXTS)).repeat_interleave(len(self.start))
        return self.start.repeat(len(CONTEXTS), 1), {"label": label}


def trained(task: Task, field: nn.Module, objective: Any, coupling: Any, draw: Draw, seed: int):
    """Train a field and return it with the seconds that took."""
    batch = task.large if isinstance(objective, MongeMap) else task.batch
    optimizer = torch.optim.AdamW(field.parameters(), lr=1e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.steps)
    began = time.process_time()
    field.train()
    for step in range(task.steps):
        generator = generator_for(seed, step)
        pair = coupling(draw(batch, generator), generator=generator)
        loss = objective(field, pair, step=step, generator=generator).total()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(field.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return field.eval(), time.process_time() - began


@torch.no_grad()
def ends(field: nn.Module, sampler: Sampler, x: Tensor, cond: Any = None) -> Tensor:
    """Return where a model takes starts, in parts."""
    parts = []
    for rows in torch.arange(len(x)).split(256):
        own = None if cond is None else {name: value[rows] for name, value in cond.items()}
        parts.append(sampler.sample(field, x[rows], own))
    return torch.cat(parts)


def learnt(task: Task, seed: int, weights: tuple[float, ...]) -> dict[str, tuple[Any, ...]]:
    """Return by name of the method: model, sampler, seconds of training."""
    path = AffinePath(Linear())
    matching = FlowMatching(path, UniformTimes())

    def flow() -> nn.Module:
        return PredictionField(task.network(seed), path, Velocity())

    best = ClassAssignment() if task.label is not None else ExactAssignment()
    found: dict[str, tuple[Any, ...]] = {}
    for name, coupling in (("flow, independent", Independent()), ("flow, OT batches", best)):
        field, seconds = trained(task, flow(), matching, coupling, task.draw, seed)
        found[name] = (field, HEUN, seconds)
        found[f"{name}, 1 step"] = (field, EULER, seconds)
    for name in ("flow, independent", "flow, OT batches"):
        teacher, _, before = found[name]
        x_0, cond = task.starts()
        reached = ends(teacher, HEUN, x_0, cond)

        def made(
            n: int, generator: torch.Generator, x_0: Tensor = x_0, x_1=reached, cond=cond
        ) -> Pair:
            rows = torch.randint(len(x_0), (n,), generator=generator)
            own = None if cond is None else {key: value[rows] for key, value in cond.items()}
            return Pair(x_0[rows], x_1[rows], own)

        student = flow()
        student.load_state_dict(teacher.state_dict())
        student, seconds = trained(task, student, matching, Independent(), made, seed + 100)
        found[f"{name}, reflow"] = (student, HEUN, before + seconds)
        found[f"{name}, reflow, 1 step"] = (student, EULER, before + seconds)
    for weight in weights:
        field = SegmentField(task.network(seed), path, Velocity())
        objective = MongeMap(weight=weight)
        field, seconds = trained(task, field, objective, Independent(), task.draw, seed)
        kind = "Monge map" if task.label is None else "conditional Monge map"
        found[f"{kind}, weight {weight:g}"] = (field, JUMP, seconds)
    return found


def bures(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the optimal map between the Gaussians of two sets, their spectra shrunk by 10 %."""

    def gaussian(z: Tensor) -> tuple[Tensor, Tensor]:
        mean = z.mean(dim=0)
        cov = (z - mean).T @ (z - mean) / (len(z) - 1)
        return mean, 0.9 * cov + 0.1 * cov.diag().mean() * torch.eye(len(cov)).to(cov)

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T

    (m, a), (k, b) = gaussian(x.double()), gaussian(y.double())
    back = torch.linalg.inv(root(a))
    matrix = back @ root(root(a) @ b @ root(a)) @ back
    return lambda z: ((z.double() - m) @ matrix + k).to(z)


def emoji_task(styles: list[str], size: int, steps: int) -> tuple[Task, dict[str, Any]]:
    """Return the task and the held-out true pairs: sources and targets, in their order."""
    source, data = (EmojiData(size, [style]) for style in styles)
    task = Task("emoji", source, data, steps, batch=64, large=128)
    one, other = (d.test.__getitems__(range(len(d.test))) for d in (source, data))
    places = {int(number): i for i, number in enumerate(other["caption"])}
    rows = [i for i, number in enumerate(one["caption"]) if int(number) in places]
    partners = [places[int(one["caption"][i])] for i in rows]
    return task, {"rows": rows, "truth": other["x_1"][partners]}


def emoji_figures(task: Task, truth: dict[str, Any], x: Tensor) -> dict[str, float]:
    """Return what the images (encoded) of the held-out sources are worth."""
    rows, wanted = truth["rows"], truth["truth"]
    shown = task.codec.decode(x[rows])
    error = (shown.double() - wanted.double()).square().mean() / 255**2
    near = torch.cdist(shown.flatten(1).double(), wanted.flatten(1).double()).argsort(dim=1)
    place = (near == torch.arange(len(rows))[:, None]).nonzero()[:, 1]
    moved = map_cost(task.test_0, x)
    return {
        "mse": float(error),
        "psnr": psnr(shown, wanted),
        "found_first": float((place == 0).double().mean()),
        "found_in_ten": float((place < 10).double().mean()),
        "energy_distance": energy_distance(x, task.test_1),
        "map_cost": moved.cost / x[0].numel(),
        "relative_gap": moved.relative_gap,
    }


def cell_figures(task: Task, data: CellData, kind: str, x_0: Tensor, x: Tensor, y: Tensor):
    """Return how far carried cells are from held-out ones of the wanted type."""
    n = min(len(x), len(y))
    order = torch.randperm(len(y), generator=generator_for(0))[:n]
    genes = data.markers(kind)
    means = [data.expression(task.codec.decode(z))[:, genes].mean(dim=0) for z in (x, y)]
    moved = map_cost(x_0, x)
    return {
        "w2": exact_w2(x[:n], y[order]).w2,
        "energy_distance": energy_distance(x, y),
        "marker_distance": float((means[0] - means[1]).norm()),
        "map_cost": moved.cost,
        "relative_gap": moved.relative_gap,
    }


def run_emoji(args: argparse.Namespace, note: Callable[..., None]) -> None:
    task, truth = emoji_task(args.styles, args.size, args.emoji_steps)
    mean = task.x_1.mean(dim=0).expand_as(task.test_0)
    nearest = task.x_1[torch.cdist(task.test_0.flatten(1), task.x_1.flatten(1)).argmin(dim=1)]
    any_one = task.x_1[torch.randperm(len(task.x_1), generator=generator_for(0))]
    baselines = {"identity": task.test_0, "mean of the data": mean}
    baselines |= {"nearest of the data": nearest, "any of the data": any_one[: len(mean)]}
    for name, x in baselines.items():
        note("emoji", name, 0, emoji_figures(task, truth, x), 0.0)
    shown: dict[str, Tensor | None] = {"source": task.test_0, "truth": None}
    for seed in range(args.emoji_seeds):
        for name, (field, sampler, seconds) in learnt(task, seed, (0.0, 1.0)).items():
            x = ends(field, sampler, task.test_0)
            note("emoji", name, seed, emoji_figures(task, truth, x), seconds)
            if seed == 0 and name in PICTURED:
                shown[name] = x
    if args.picture:
        few = torch.randperm(len(truth["rows"]), generator=generator_for(1))[:12].tolist()
        sets = [
            truth["truth"][few]
            if x is None
            else task.codec.decode(x[[truth["rows"][i] for i in few]])
            for x in shown.values()
        ]
        save_image(grid(torch.cat(sets), len(few), min_side=48), args.picture)


def run_cells(args: argparse.Namespace, note: Callable[..., None]) -> None:
    source = CellData([MONOCYTES], holdout=0.3)
    one, short = [DENDRITIC], args.cell_steps // 10
    plan = [("cells_short", one, short), ("cells", one, args.cell_steps)]
    for name, types, steps in (*plan, ("contexts", list(CONTEXTS), args.cell_steps)):
        if name not in args.tasks.split(","):
            continue
        data = CellData(types, holdout=0.3)
        task = Task(name, source, data, steps, batch=64, large=64 * len(types))

        def figures(of: Callable[[int], Tensor], types=types, task=task, data=data) -> dict:
            parts = []
            for i, kind in enumerate(types):
                own = slice(None) if task.test_label is None else task.test_label == i
                y = task.test_1[own]
                parts.append(cell_figures(task, data, kind, task.test_0, of(i), y))
            return {key: statistics.fmean(part[key] for part in parts) for key in parts[0]}

        def training(i: int, task=task) -> Tensor:
            return task.x_1 if task.label is None else task.x_1[task.label == i]

        def some(i: int, n: int = len(task.test_0)) -> Tensor:
            own = training(i)
            return own[torch.randint(len(own), (n,), generator=generator_for(3))]

        baselines = {
            "identity": lambda i, task=task: task.test_0,
            "training cells of the type": some,
            "shift of the mean": lambda i, task=task: (
                task.test_0 + training(i).mean(dim=0) - task.start.mean(dim=0)
            ),
            "Gaussian map (Bures)": lambda i, task=task: bures(task.start, training(i))(
                task.test_0
            ),
        }
        for method, of in baselines.items():
            note(name, method, 0, figures(of), 0.0)
        for seed in range(args.context_seeds if name == "contexts" else args.cell_seeds):
            for method, (field, sampler, seconds) in learnt(task, seed, (0.0, 1.0)).items():

                def carried(i: int, field=field, sampler=sampler, task=task) -> Tensor:
                    label = torch.full((len(task.test_0),), i)
                    cond = None if task.label is None else {"label": label}
                    return ends(field, sampler, task.test_0, cond)

                note(name, method, seed, figures(carried), seconds)


def table(entries: list[dict[str, Any]]) -> str:
    """Return the means over seeds as Markdown, with deviations where there are several seeds."""
    lines = []
    for task in dict.fromkeys(entry["task"] for entry in entries):
        own = [entry for entry in entries if entry["task"] == task]
        keys = list(own[0]["figures"])
        lines += ["", f"| {task} | " + " | ".join(keys) + " | seconds |"]
        lines.append("| --- " * (len(keys) + 2) + "|")
        for method in dict.fromkeys(entry["method"] for entry in own):
            rows = [entry for entry in own if entry["method"] == method]
            cells = []
            for key in keys:
                values = [row["figures"][key] for row in rows]
                spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
                cells.append(f"{statistics.fmean(values):.3g}{spread}")
            seconds = statistics.fmean(row["seconds"] for row in rows)
            lines.append(f"| {method} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--table", action="store_true", help="print what is in the file")
    parser.add_argument("--tasks", default="cells_short,cells,contexts,emoji")
    styles = ["twemoji", "openmoji"]
    parser.add_argument("--styles", nargs=2, default=styles, help="of emoji: from, to; or noto")
    parser.add_argument("--size", type=int, default=16, help="side of emoji in pixels")
    parser.add_argument("--emoji-steps", type=int, default=1500)
    parser.add_argument("--emoji-seeds", type=int, default=1)
    parser.add_argument("--cell-steps", type=int, default=1000)
    parser.add_argument("--cell-seeds", type=int, default=2)
    parser.add_argument("--context-seeds", type=int, default=1)
    parser.add_argument("--picture", type=Path, help="PNG of held-out emoji")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.out.read_text())["entries"]))
        return
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    settings = {
        k: v for k, v in vars(args).items() if k not in ("out", "table", "picture", "tasks")
    }
    about = {
        "flowgen": __version__,
        "commit": commit.stdout.strip(),
        "settings": settings,
        "protocol": __doc__,
    }
    entries: list[dict[str, Any]] = []
    if args.out.exists():
        entries = json.loads(args.out.read_text())["entries"]
        entries = [e for e in entries if e["task"] not in args.tasks.split(",")]

    def note(task: str, method: str, seed: int, figures: dict[str, float], seconds: float) -> None:
        entry = {"task": task, "method": method, "seed": seed, "seconds": round(seconds, 1)}
        entries.append({**entry, "figures": figures})
        args.out.write_text(json.dumps({"about": about, "entries": entries}, indent=1) + "\n")
        print(task, method, seed, f"{seconds:.0f} s", flush=True)

    run_cells(args, note)
    if "emoji" in args.tasks.split(","):
        run_emoji(args, note)
    print(table(entries))


if __name__ == "__main__":
    main()
