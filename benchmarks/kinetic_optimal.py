"""Kinetic-optimal paths against linear ones: energy, and quality at few Euler steps.

    python benchmarks/kinetic_optimal.py OUT.json --data two_points checkerboard digits
    python benchmarks/kinetic_optimal.py OUT.json --figure docs/images/kinetic_optimal.png

The first trains, for every data set and seed, one network along the linear path and one along the
kinetic-optimal path, on the same batches, and writes what came of it; data sets that the file holds
already stay. Both networks are sampled along their own path, and the linear one along the
kinetic-optimal and the trig path too, without retraining (`rescheduled`). The path is fitted to
points in the plane, to the losses of the linear network for digits, whose points are too few.

W2 is the exact distance of samples and held-out points, in units of the data's standard deviation
for each dimension; its floor is that of as many training points.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import Pair, VelocityField, generator_for
from flowgen.data import Checkerboard, Digits, Mixture, PointData
from flowgen.integrators import Euler, Heun, Sampler, Uniform, trajectory
from flowgen.metrics import exact_w2, path_statistics
from flowgen.models import MLP, DiT
from flowgen.objectives import FlowMatching
from flowgen.paths import (
    AffinePath,
    Linear,
    Rescheduled,
    Schedule,
    Trig,
    error_of_data,
    error_of_model,
    kinetic_energy,
)

EULER_STEPS = (2, 6, 10, 16)
NUM_COMPARED = 1500
WAYS = ("linear", "kinetic_optimal", "rescheduled", "trig, rescheduled")


@dataclass(frozen=True)
class Case:
    """A data set, the network it gets, and what its path is fitted to."""

    data: Callable[[], Any]
    network: Callable[[], nn.Module]
    fit_to_points: bool


CASES = {
    "two_points": Case(
        lambda: PointData(Mixture([[1.0, 1.0], [-1.0, -1.0]], 0.05), standardize=True),
        lambda: MLP((2,), width=64, depth=3),
        True,
    ),
    "checkerboard": Case(
        lambda: PointData(Checkerboard(), num_train=50_000, num_test=2000, standardize=True),
        lambda: MLP((2,), width=128, depth=4),
        True,
    ),
    "digits": Case(
        Digits, lambda: DiT((1, 8, 8), patch=2, width=64, depth=4, heads=4), fit_to_points=False
    ),
}


def encoded(data: Any, split: Any, most: int) -> Tensor:
    """Return up to ``most`` samples as a model sees them."""
    return data.codec.encode(split.__getitems__(list(range(min(most, len(split)))))["x_1"])


def train(network: nn.Module, schedule: Schedule, x_1: Tensor, steps: int, seed: int) -> None:
    """Train on independent pairs; batches and times depend on the seed alone."""
    objective = FlowMatching(AffinePath(schedule))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = generator_for(seed, 1)
    for _ in range(steps):
        rows = torch.randint(len(x_1), (256,), generator=generator)
        pair = Pair(torch.randn(256, *x_1.shape[1:], generator=generator), x_1[rows])
        optimizer.zero_grad()
        objective(network, pair, generator=generator).total().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
    network.eval()


@torch.no_grad()
def energy(field: VelocityField, x_0: Tensor) -> float:
    """Return the kinetic energy per dimension of the trained flow, on 100 steps of Heun."""
    nodes = torch.linspace(0, 1, 101)
    states = trajectory(Heun(), field, x_0, nodes, None)
    return path_statistics(field, states, nodes).path_energy / x_0[0].numel()


@torch.no_grad()
def quality(field: VelocityField, x_0: Tensor, held_out: Tensor, unit: float) -> dict[str, Any]:
    """Return W2 and the distance from the fine solution, by the number of Euler steps."""
    fine = Sampler(Heun(), Uniform(), 200).sample(field, x_0)
    found: dict[str, Any] = {"w2_fine": distance(fine, held_out, unit)}
    for steps in EULER_STEPS:
        ends = Sampler(Euler(), Uniform(), steps).sample(field, x_0)
        found[f"w2_{steps}"] = distance(ends, held_out, unit)
        found[f"rmse_{steps}"] = float((ends - fine).square().mean().sqrt()) / unit
    return found


def distance(a: Tensor, b: Tensor, unit: float) -> float:
    """Return W2 of two equal numbers of points, per dimension and in units of the data."""
    n = min(len(a), len(b))
    return exact_w2(a[:n], b[:n]).w2 / (unit * a[0].numel() ** 0.5)


def network_of(case: Case, seed: int) -> nn.Module:
    """Return the network of a case, its first weights by the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return case.network()


def measured(case: Case, steps: int, seed: int) -> dict[str, Any]:
    """Return the figures of one data set and seed."""
    data = case.data()
    x_1, held_out = encoded(data, data.train, 50_000), encoded(data, data.test, NUM_COMPARED)
    unit = float((x_1 - x_1.mean(dim=0)).square().mean().sqrt())
    linear, fitted = (network_of(case, seed) for _ in range(2))
    train(linear, Linear(), x_1, steps, seed)
    if case.fit_to_points:
        found = error_of_data(x_1[:5000], generator=generator_for(seed, 2))
        curve, schedule = found.curve, found.schedule()
    else:
        curve = error_of_model(
            linear, AffinePath(Linear()), held_out, generator=generator_for(seed, 2)
        )
        schedule = curve.schedule()
    train(fitted, schedule, x_1, steps, seed)
    x_0 = torch.randn(
        min(NUM_COMPARED, len(held_out)), *x_1.shape[1:], generator=generator_for(seed, 3)
    )
    followed = [Rescheduled(linear, Linear(), each) for each in (schedule, Trig())]
    fields = (linear, fitted, *followed)
    figures = {
        way: {"energy": energy(field, x_0), **quality(field, x_0, held_out, unit)}
        for way, field in zip(WAYS, fields, strict=True)
    }
    expected = {
        name: kinetic_energy(each, curve, rho=curve.rho)
        for name, each in (("linear", Linear()), ("trig", Trig()), ("kinetic_optimal", schedule))
    }
    floor = distance(x_1[: len(held_out)], held_out, unit)
    return {"seed": seed, "expected_energy": expected, "w2_floor": floor, "ways": figures}


def mean(runs: list[dict[str, Any]], way: str, name: str) -> tuple[float, float]:
    """Return the mean over seeds and its standard error."""
    values = [run["ways"][way][name] for run in runs]
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return statistics.mean(values), error


def table(content: dict[str, Any]) -> str:
    """Return the figures as a markdown table."""
    columns = ["energy", *(f"w2_{n}" for n in EULER_STEPS), "w2_fine"]
    heads = [f"W2, {n} steps" for n in EULER_STEPS]
    lines = [
        "| data | path | energy | " + " | ".join(heads) + " | W2, fine |",
        "|---|---|" + "---|" * len(columns),
    ]
    for data, case in content.items():
        for way in WAYS:
            cells = ["{:.3f} ± {:.3f}".format(*mean(case["runs"], way, name)) for name in columns]
            lines.append(f"| {data} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(content: dict[str, Any], path: Path) -> None:
    """Write energies and W2 against Euler steps, a row for each data set."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(12.6, 3.0 * len(content)), layout="constrained")
    rows = picture.subplots(len(content), 3, squeeze=False)
    for (data, case), (left, middle, right) in zip(content.items(), rows, strict=True):
        runs = case["runs"]
        for i, (way, marker) in enumerate(zip(WAYS, "osD^", strict=True)):
            for axes, name in ((middle, "w2"), (right, "rmse")):
                points = [mean(runs, way, f"{name}_{n}") for n in EULER_STEPS]
                values, errors = zip(*points, strict=True)
                axes.errorbar(EULER_STEPS, values, errors, marker=marker, ms=4, lw=1.2, label=way)
            value, error = mean(runs, way, "energy")
            bar = left.barh(way, value, xerr=error, color=f"C{i}")
            left.bar_label(bar, fmt="%.3g", fontsize=8, padding=3)
        floor = statistics.mean(run["w2_floor"] for run in runs)
        middle.axhline(floor, ls="--", lw=1, color="0.4", label="floor")
        left.invert_yaxis()
        left.margins(x=0.15)
        left.set_title(f"{data}: kinetic energy per dimension", fontsize=9)
        for axes in (middle, right):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(EULER_STEPS, [str(n) for n in EULER_STEPS])
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.set_xlabel("Euler steps", fontsize=8)
        middle.set_title(f"{data}: W2 to held-out data", fontsize=9)
        right.set_title(f"{data}: error of the steps (RMSE)", fontsize=9)
        middle.legend(fontsize=8)
        for axes in (left, middle, right):
            axes.tick_params(which="both", labelsize=8)
    picture.savefig(path, format="png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="kinetic-optimal paths against linear")
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", nargs="+", choices=CASES, default=["two_points", "checkerboard"])
    parser.add_argument("--steps", type=int, default=4000, help="of the training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", type=Path, help="draw the file instead of measuring")
    arguments = parser.parse_args()
    content = json.loads(arguments.file.read_text()) if arguments.file.exists() else {}
    if arguments.figure:
        figure(content, arguments.figure)
    else:
        for name in arguments.data:
            runs = []
            for seed in range(arguments.seeds):
                start = time.perf_counter()
                runs.append(measured(CASES[name], arguments.steps, seed))
                seconds = time.perf_counter() - start
                sys.stderr.write(f"{name}, seed {seed}: {seconds:.0f} s\n")
            content[name] = {"steps": arguments.steps, "runs": runs}
            arguments.file.write_text(json.dumps(content, indent=1) + "\n")
    print(table(content))


if __name__ == "__main__":
    main()
