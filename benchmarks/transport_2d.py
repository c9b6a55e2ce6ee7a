"""Flows between distributions in the plane after several couplings, beside torchcfm's, in one run.

    OMP_NUM_THREADS=1 python benchmarks/transport_2d.py benchmarks/results/transport_2d.json
    python benchmarks/transport_2d.py benchmarks/results/transport_2d.json --table
    OMP_NUM_THREADS=1 python benchmarks/transport_2d.py benchmarks/results/transport_2d.json --speed

Data, network (three layers of 64 SELU units on [t, x]), optimiser (AdamW, 1e-3, decay 1e-5) and
figures are those of Tong et al. 2024 (arXiv 2302.00482). For every task and seed all methods of
both libraries start from the same weights and see the same batches in the same order; the training
loop and the evaluation are the same code. torchcfm is optional: unpack its wheel on PYTHONPATH
(`pip download --no-deps torchcfm==1.0.7`), or leave it out with `--libraries flowgen`.

Each network is one entry of the file and is written as soon as it is there: a run that is stopped
goes on where it was. `--speed` measures steps a second, alternating, and needs an idle machine.

W2 is exact, between 1000 held-out points and as many samples of 100 Euler steps, or of 4. NPE is
`|PE - W2^2(q0, q1)| / W2^2(q0, q1)` with the path energy PE along the 100 steps.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgen import __version__
from flowgen.core import Condition, Coupling, Pair, Source, generator_for
from flowgen.couplings import ExactAssignment, Independent, Weighted, elbow, strengths
from flowgen.data import Gaussian, Mixture, Moons, SCurve
from flowgen.integrators import Euler, Sampler, Uniform, trajectory
from flowgen.metrics import exact_w2, path_statistics
from flowgen.objectives import FlowMatching
from flowgen.paths import AffinePath, Linear

SEEDS = (42, 43, 44, 45, 46)
NUM_TRAIN, NUM_TEST = 10_000, 1000
SIGMA = 0.1
"""Width of torchcfm's paths, as in its benchmark; flowgen's linear path has none."""

Batches = Iterator[tuple[Tensor, Tensor]]
Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
"""From a network and a batch of source and data to the loss."""


def ring(radius: float, std: float) -> Mixture:
    """Return eight Gaussians on a circle."""
    angles = [math.pi / 4 * k for k in range(8)]
    return Mixture([[radius * math.cos(a), radius * math.sin(a)] for a in angles], std)


@dataclass(frozen=True)
class Standardized:
    """Points of a distribution with mean 0 and standard deviation ``scale`` on both axes."""

    inner: Source
    scale: float

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Return ``n`` samples ``(n, 2)``."""
        many = self.inner.sample(100_000, generator=generator_for(0))
        x = self.inner.sample(n, generator=generator, device=device)
        return self.scale * (x - many.mean(dim=0)) / many.std(dim=0)


NORMAL, EIGHT, MOONS = Gaussian((2,)), ring(5.0, 1.0), Moons()
TASKS: dict[str, tuple[Source, Source]] = {
    "N -> 8 gaussians": (NORMAL, EIGHT),
    "moons -> 8 gaussians": (Standardized(Moons(noise=0.1), 7.0), ring(12.0, 1.5)),
    "N -> moons": (NORMAL, MOONS),
    "N -> s-curve": (NORMAL, SCurve()),
    "8 gaussians -> moons": (EIGHT, MOONS),
}


class Network(nn.Module):
    """The network of the benchmark: a velocity of state and time."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 64, 64, 64)
        layers: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(a, b), nn.SELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(64, 2))

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(b, 2)``."""
        del cond
        return self.layers(torch.cat([x, t[:, None]], dim=1))


def ours(coupling: Coupling, objective: nn.Module | None = None) -> Loss:
    """Return the loss of flowgen after a coupling."""
    matching = FlowMatching(AffinePath(Linear())) if objective is None else objective

    def loss(network: nn.Module, x_0: Tensor, x_1: Tensor, generator: torch.Generator) -> Tensor:
        pair = coupling(Pair(x_0, x_1), generator=generator)
        return matching(network, pair, generator=generator).total()

    return loss


def theirs(name: str) -> Loss:
    """Return the loss of torchcfm with one of its matchers."""
    cfm = importlib.import_module("torchcfm.conditional_flow_matching")
    matcher = {
        "independent": lambda: cfm.ConditionalFlowMatcher(sigma=SIGMA),
        "ot": lambda: cfm.ExactOptimalTransportConditionalFlowMatcher(sigma=SIGMA),
    }[name]()

    def loss(network: nn.Module, x_0: Tensor, x_1: Tensor, generator: torch.Generator) -> Tensor:
        del generator  # it draws from the global ones, which the seed of the run has set
        t, x_t, u_t = matcher.sample_location_and_conditional_flow(x_0, x_1)
        return (network(x_t, t) - u_t).square().mean()

    return loss


def weighted(task: str) -> Loss:
    """Return weighted flow matching at the elbow of the tilt."""
    sides = TASKS[task]
    x_0, x_1 = (side.sample(2048, generator=generator_for(7, i)) for i, side in enumerate(sides))
    kappas = np.logspace(math.log10(0.02), 2, 32).tolist()
    table = strengths(x_0, x_1, kappas)
    found = elbow(table, 0.05)
    return ours(Weighted(kappa=found.kappa if found is not None else kappas[-1]))


METHODS: dict[tuple[str, str], Callable[[str], Loss]] = {
    ("flowgen", "independent"): lambda task: ours(Independent()),
    ("flowgen", "ot"): lambda task: ours(ExactAssignment()),
    ("torchcfm", "independent"): lambda task: theirs("independent"),
    ("torchcfm", "ot"): lambda task: theirs("ot"),
    ("flowgen", "weighted"): weighted,
    ("flowgen", "2-rectified"): lambda task: ours(Independent()),
}


def sets(task: str, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training and held-out points: source, data, source, data."""
    source, data = TASKS[task]
    return (
        source.sample(NUM_TRAIN, generator=generator_for(seed, 0)),
        data.sample(NUM_TRAIN, generator=generator_for(seed, 1)),
        source.sample(NUM_TEST, generator=generator_for(seed, 2)),
        data.sample(NUM_TEST, generator=generator_for(seed, 3)),
    )


@functools.cache
def least_energy(task: str) -> float:
    """Return the squared distance of source and data, of more points than the held-out ones."""
    source, data = (
        s.sample(2000, generator=generator_for(9, i)) for i, s in enumerate(TASKS[task])
    )
    return exact_w2(source, data).w2_squared


def apart(x_0: Tensor, x_1: Tensor, batch: int, seed: int) -> Batches:
    """Yield batches of both sides, drawn on their own."""
    generator = generator_for(seed, 4)
    while True:
        rows = torch.randint(len(x_0), (2, batch), generator=generator)
        yield x_0[rows[0]], x_1[rows[1]]


def together(x_0: Tensor, x_1: Tensor, batch: int, seed: int) -> Batches:
    """Yield batches of fixed pairs."""
    generator = generator_for(seed, 4)
    while True:
        rows = torch.randint(len(x_0), (batch,), generator=generator)
        yield x_0[rows], x_1[rows]


def trained(loss: Loss, batches: Batches, steps: int, seed: int) -> tuple[Network, float, float]:
    """Return the network, seconds of training and the mean loss of the last tenth."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - torchcfm draws its pairs from it
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-5)
    generator = generator_for(seed, 5)
    last = []
    start = time.process_time()
    for step in range(steps):
        value = loss(network, *next(batches), generator)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step >= 0.9 * steps:
            last.append(value.detach())
    seconds = time.process_time() - start
    return network.eval(), seconds, float(torch.stack(last).mean())


@torch.no_grad()
def figures(network: Network, x_0: Tensor, x_1: Tensor, least: float) -> dict[str, float]:
    """Return what the samples and their ways are worth."""
    nodes = torch.linspace(0, 1, 101)
    states = trajectory(Euler(), network, x_0, nodes, None)
    energy = path_statistics(network, states, nodes)
    few = Sampler(Euler(), Uniform(), 4).sample(network, x_0)
    found = exact_w2(states[-1], x_1)
    return {
        "w2": found.w2,
        "w2_squared": found.w2_squared,
        "w2_4": exact_w2(few, x_1).w2,
        "npe": energy.npe(least),
        "path_energy": energy.path_energy,
        "energy_over_w2_generated": energy.energy_ratio(exact_w2(x_0, states[-1]).w2_squared),
    }


@torch.no_grad()
def rectified(network: Network, x_0: Tensor) -> Tensor:
    """Return the ends of the flow, for a second round on its own pairs."""
    return Sampler(Euler(), Uniform(), 100).sample(network, x_0)


def cell(task: str, library: str, method: str, seed: int, steps: int, batch: int) -> dict[str, Any]:
    """Train and measure one network."""
    x_0, x_1, test_0, test_1 = sets(task, seed)
    least = least_energy(task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = METHODS[library, method](task)
        batches = apart(x_0, x_1, batch, seed)
        if method == "2-rectified":
            first, _, _ = trained(loss, batches, steps, seed)
            batches = together(x_0, rectified(first, x_0), batch, seed)
        network, seconds, last = trained(loss, batches, steps, seed)
    return {
        "task": task,
        "library": library,
        "method": method,
        "seed": seed,
        **figures(network, test_0, test_1, least),
        "w2_squared_of_ends": least,
        "floor": exact_w2(
            TASKS[task][1].sample(NUM_TEST, generator=generator_for(seed, 6)), test_1
        ).w2,
        "last_loss": last,
        "cpu_seconds": seconds,
    }


def speed(rounds: int, steps: int, batch: int) -> dict[str, Any]:
    """Return the steps a second of each method, the median of alternating rounds."""
    task = "N -> 8 gaussians"
    names = [key for key in METHODS if key[1] in ("independent", "ot")]
    if importlib.util.find_spec("torchcfm") is None:
        names = [key for key in names if key[0] == "flowgen"]
    rates: dict[str, list[float]] = {f"{library} {method}": [] for library, method in names}
    for seed in range(rounds + 1):
        x_0, x_1, _, _ = sets(task, seed)
        for library, method in names:
            start = time.perf_counter()
            trained(METHODS[library, method](task), apart(x_0, x_1, batch, seed), steps, seed)
            if seed:  # the first round warms up
                rates[f"{library} {method}"].append(steps / (time.perf_counter() - start))
    found = {name: round(statistics.median(each), 1) for name, each in rates.items()}
    ratios = {"ot / independent": found["flowgen ot"] / found["flowgen independent"]}
    if "torchcfm ot" in found:
        ratios["flowgen ot / torchcfm ot"] = found["flowgen ot"] / found["torchcfm ot"]
    return {
        "task": task,
        "batch": batch,
        "rounds": rounds,
        "steps_of_a_round": steps,
        "steps_per_second": found,
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }


def table(cells: list[dict[str, Any]]) -> str:
    """Return the Markdown tables of W2, W2 of 4 steps and NPE: mean and standard error."""
    lines = []
    for name, title in (("w2", "W2"), ("w2_4", "W2, 4 Euler steps"), ("npe", "NPE")):
        lines += [f"**{title}**", "", "| | " + " | ".join(TASKS) + " |"]
        lines.append("| --- " * (len(TASKS) + 1) + "|")
        for library, method in METHODS:
            texts = []
            for task in TASKS:
                wanted = (library, method, task)
                found = [c[name] for c in cells if (c["library"], c["method"], c["task"]) == wanted]
                texts.append(_told(found))
            lines.append(f"| {library}, {method} | " + " | ".join(texts) + " |")
        lines.append("")
    return "\n".join(lines)


def _told(values: list[float]) -> str:
    if not values:
        return "-"
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values) / math.sqrt(len(values)):.3f}"


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Flows in the plane after several couplings.")
    parser.add_argument("out", type=Path, help="JSON file, gone on with if it is there")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--methods", nargs="+", default=sorted({m for _, m in METHODS}))
    parser.add_argument("--libraries", nargs="+", default=["flowgen", "torchcfm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--table", action="store_true", help="print the tables and stop")
    parser.add_argument("--speed", action="store_true", help="measure steps a second, batch 256")
    parser.add_argument("--rounds", type=int, default=7, help="of --speed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    content: dict[str, Any] = {"cells": []}
    if arguments.out.exists():
        content = json.loads(arguments.out.read_text())
    if arguments.table:
        print(table(content["cells"]))
        return
    protocol = {
        "steps": arguments.steps,
        "batch": arguments.batch,
        "train_points": NUM_TRAIN,
        "test_points": NUM_TEST,
        "torchcfm_sigma": SIGMA,
    }
    if content.setdefault("protocol", protocol) != protocol:
        sys.exit(f"error: {arguments.out} was made with {content['protocol']}: choose another file")
    content |= {"flowgen": __version__, "torch": torch.__version__}

    def write() -> None:
        part = arguments.out.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.replace(arguments.out)

    if arguments.speed:
        content["speed"] = {"commit": _commit(), **speed(arguments.rounds, 1000, 256)}
        print(json.dumps(content["speed"], indent=2))
        write()
        return
    if "torchcfm" in arguments.libraries and importlib.util.find_spec("torchcfm") is None:
        sys.exit("error: torchcfm is not there: see --help, or give --libraries flowgen")
    done = {(c["task"], c["library"], c["method"], c["seed"]) for c in content["cells"]}
    wanted = [
        (task, library, method, seed)
        for seed in arguments.seeds
        for library, method in METHODS
        for task in arguments.tasks
        if library in arguments.libraries and method in arguments.methods
    ]
    for key in [key for key in wanted if key not in done]:
        start = time.perf_counter()
        found = cell(*key, arguments.steps, arguments.batch) | {"commit": _commit()}
        content["cells"].append(found)
        write()
        print(
            f"{len(content['cells'])}: {key} w2 {found['w2']:.3f} w2_4 {found['w2_4']:.3f} "
            f"npe {found['npe']:.3f} ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
