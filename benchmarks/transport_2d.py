"""Flows between distributions in the plane after several couplings, beside torchcfm's, in one run.

    OMP_NUM_THREADS=1 python benchmarks/transport_2d.py benchmarks/results/transport_2d.json
    python benchmarks/transport_2d.py benchmarks/results/transport_2d.json --table
    OMP_NUM_THREADS=1 python benchmarks/transport_2d.py benchmarks/results/transport_2d.json --speed

torchcfm is optional and no dependency: `pip install --no-deps --target peer torchcfm==1.0.7`, then
`PYTHONPATH=peer`; it needs POT, which the tests of flowgen install. Or `--libraries flowgen`.

Data, network (three layers of 64 SELU units on [t, x]), optimiser (AdamW, 1e-3, decay 1e-5) and
figures are those of Tong et al. 2024 (arXiv 2302.00482); batches and steps are smaller (--batch,
--steps), alike for all. For every task and seed all methods of both libraries start from the same
weights and see the same batches in the same order; one plain loop trains them, one function
measures them. flowgen brings distributions, couplings, paths, the objective, integrators and
distances; its trainer is not used, as the peer has none. torchcfm's paths have a constant width of
0.1; flowgen's linear path has none, and "width 0.1" gives it that of torchcfm.

Each network is one entry of the file and is written as soon as it is there: a run that is stopped
goes on where it was; `--join FILES` takes the entries of other files instead of training. `--speed`
measures steps a second, in turns, and needs an idle machine.

W2 is exact, between held-out points and as many samples of 100 Euler steps, or of 4. NPE is
`|PE - W2^2(q0, q1)| / W2^2(q0, q1)`: PE is the path energy along the 100 steps of held-out points,
W2^2 the mean over draws of as many points of each side. The rate of learning stays constant, so
the last weights scatter; on "N -> moons" PE / W2^2 had a deviation of 0.06 to 0.09 over the last 30
hundreds of steps. So all figures are also taken with the mean of the weights over the last tenth of
the steps (`averaged_`), which is not part of the published protocol.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from transport_methods import BRIDGE_SIGMA, METHODS, SIGMA, TASKS, Loss, Network
from transport_tables import summary, tables

from flowgen import __version__
from flowgen.core import Pair, VelocityField, generator_for
from flowgen.couplings import ExactAssignment
from flowgen.integrators import Euler, Sampler, Uniform, trajectory
from flowgen.metrics import exact_w2, path_statistics

SEEDS = (42, 43, 44, 45, 46)
NUM_TRAIN = 10_000

Batches = Iterator[tuple[Tensor, Tensor]]
Key = tuple[str, str, str, int]
"""Task, library, method and seed."""


def sets(task: str, seed: int, points: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training and held-out points: source, data, source, data."""
    source, data = TASKS[task]
    return (
        source.sample(NUM_TRAIN, generator=generator_for(seed, 0)),
        data.sample(NUM_TRAIN, generator=generator_for(seed, 1)),
        source.sample(points, generator=generator_for(seed, 2)),
        data.sample(points, generator=generator_for(seed, 3)),
    )


def squared_distance(task: str, draws: int, points: int) -> float:
    """Return the squared distance of source and data, the mean of draws of finite sets."""
    clouds = (
        [
            side.sample(points, generator=generator_for(9, i, k))
            for i, side in enumerate(TASKS[task])
        ]
        for k in range(draws)
    )
    return statistics.mean(exact_w2(*pair).w2_squared for pair in clouds)


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


def trained(
    loss: Loss, batches: Batches, steps: int, seed: int
) -> tuple[VelocityField, VelocityField, float, float]:
    """Return the network, its mean over the last tenth, seconds, and the mean loss of the tenth."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - torchcfm draws its pairs from it
    network = Network()
    average = AveragedModel(network)
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
            average.update_parameters(network)
    seconds = time.process_time() - start
    return network, average.module, seconds, float(torch.stack(last).mean())


@torch.no_grad()
def figures(network: VelocityField, x_0: Tensor, x_1: Tensor) -> dict[str, float]:
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
        "path_energy": energy.path_energy,
        "energy_over_w2_generated": energy.energy_ratio(exact_w2(x_0, states[-1]).w2_squared),
    }


@torch.no_grad()
def rectified(network: VelocityField, x_0: Tensor) -> Tensor:
    """Return the ends of the flow, for a second round on its own pairs."""
    return Sampler(Euler(), Uniform(), 100).sample(network, x_0)


def cell(key: Key, steps: int, batch: int, points: int) -> dict[str, Any]:
    """Train and measure one network; the time of 2-rectified is that of the second round."""
    torch.set_num_threads(1)
    task, library, method, seed = key
    x_0, x_1, test_0, test_1 = sets(task, seed, points)
    others = TASKS[task][1].sample(points, generator=generator_for(seed, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # POT tells of every batch that has not converged
        loss = METHODS[library, method](task)
        batches = apart(x_0, x_1, batch, seed)
        if method == "2-rectified":
            first, _, _, _ = trained(loss, batches, steps, seed)
            batches = together(x_0, rectified(first, x_0), batch, seed)
        network, average, seconds, last = trained(loss, batches, steps, seed)
    return {
        "task": task,
        "library": library,
        "method": method,
        "seed": seed,
        **figures(network, test_0, test_1),
        **{f"averaged_{k}": v for k, v in figures(average, test_0, test_1).items()},
        "floor": exact_w2(others, test_1).w2,
        "last_loss": last,
        "cpu_seconds": seconds,
    }


def cells(wanted: list[Key], jobs: int, *numbers: int) -> Iterator[dict[str, Any]]:
    """Yield every cell as soon as it is there."""
    if jobs == 1:
        yield from (cell(key, *numbers) for key in wanted)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        for future in as_completed([pool.submit(cell, key, *numbers) for key in wanted]):
            yield future.result()


def ahead(batches: Batches) -> Batches:
    """Yield batches that a thread pairs while the network learns from the one before."""
    coupling = ExactAssignment()

    def paired() -> tuple[Tensor, Tensor]:
        pair = coupling(Pair(*next(batches)))
        return pair.x_0, pair.x_1

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(paired)
        while True:
            ready = waiting.result()
            waiting = thread.submit(paired)
            yield ready


def speed(rounds: int, steps: int, batch: int) -> dict[str, Any]:
    """Return the steps a second of each method, the median of rounds in turns."""
    task = "N -> 8 gaussians"
    keys = [key for key in METHODS if key[1] in ("independent", "ot")]
    if importlib.util.find_spec("torchcfm") is None:
        keys = [key for key in keys if key[0] == "flowgen"]
    runs: dict[str, tuple[tuple[str, str], Callable[[Batches], Batches]]] = {
        " ".join(key): (key, lambda batches: batches) for key in keys
    }
    runs["flowgen ot, a batch ahead"] = (("flowgen", "independent"), ahead)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for seed in range(rounds + 1):
        x_0, x_1, _, _ = sets(task, seed, 1)
        for name, (key, through) in runs.items():
            batches = through(apart(x_0, x_1, batch, seed))
            start = time.perf_counter()
            trained(METHODS[key](task), batches, steps, seed)
            if seed:  # the first round warms up
                rates[name].append(steps / (time.perf_counter() - start))
    found = {name: round(statistics.median(each), 1) for name, each in rates.items()}
    ratios = [
        ("flowgen ot", "flowgen independent"),
        ("flowgen ot, a batch ahead", "flowgen independent"),
        ("flowgen ot", "torchcfm ot"),
        ("flowgen ot, a batch ahead", "torchcfm ot"),
    ]
    return {
        "task": task,
        "batch": batch,
        "rounds": rounds,
        "steps_of_a_round": steps,
        "steps_per_second": found,
        "ratios": {f"{a} / {b}": round(found[a] / found[b], 3) for a, b in ratios if b in found},
    }


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def versions() -> dict[str, str]:
    """Return what the cells are made with."""
    found = {"flowgen": __version__, "torch": torch.__version__, "numpy": np.__version__}
    for name in ("torchcfm", "POT", "lapx"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not there"
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Flows in the plane after several couplings.")
    parser.add_argument("out", type=Path, help="JSON file, gone on with if it is there")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    methods = list(dict.fromkeys(method for _, method in METHODS))
    parser.add_argument("--methods", nargs="+", default=methods, choices=methods)
    libraries = ["flowgen", "torchcfm"]
    parser.add_argument("--libraries", nargs="+", default=libraries, choices=libraries)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--points", type=int, default=1000, help="held out, of each side")
    parser.add_argument("--draws", type=int, default=24, help="of the distance of both ends")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument(
        "--join",
        nargs="+",
        type=Path,
        default=[],
        help="take cells of files, the last of equal ones",
    )
    parser.add_argument("--table", action="store_true", help="print the tables and stop")
    parser.add_argument("--speed", action="store_true", help="measure steps a second, batch 256")
    parser.add_argument("--rounds", type=int, default=7, help="of --speed")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    content: dict[str, Any] = {"protocol": {}, "ends": {}, "cells": []}
    if arguments.out.exists():
        content |= json.loads(arguments.out.read_text())
    if arguments.table:
        print(tables(content, list(TASKS), list(METHODS)))
        return
    protocol = {
        "steps": arguments.steps,
        "batch": arguments.batch,
        "train_points": NUM_TRAIN,
        "test_points": arguments.points,
        "torchcfm_sigma": SIGMA,
        "bridge_sigma": BRIDGE_SIGMA,
        "draws_of_ends": arguments.draws,
    }
    for file in [arguments.out] * bool(content["cells"]) + arguments.join:
        _check(file, protocol)
    content |= {"protocol": protocol, "versions": versions()}

    def write() -> None:
        content["summary"] = summary(content)
        part = arguments.out.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.replace(arguments.out)

    commit = _commit()
    if arguments.speed:
        content["speed"] = {"commit": commit, **speed(arguments.rounds, 1000, 256)}
        print(json.dumps(content["speed"], indent=2))
        write()
        return
    for task in TASKS if arguments.join else arguments.tasks:
        if task not in content["ends"]:
            content["ends"][task] = squared_distance(task, arguments.draws, arguments.points)
    done = {_key(each) for each in content["cells"]}
    if arguments.join:
        taken = [each for file in arguments.join for each in json.loads(file.read_text())["cells"]]
        content["cells"] += {_key(c): c for c in taken if _key(c) not in done}.values()
        write()
        return
    wanted = [
        (task, library, method, seed)
        for seed in arguments.seeds
        for library, method in METHODS
        for task in arguments.tasks
        if library in arguments.libraries and method in arguments.methods
    ]
    wanted = [key for key in wanted if key not in done]
    if any(key[1] == "torchcfm" for key in wanted) and not importlib.util.find_spec("torchcfm"):
        sys.exit("error: torchcfm is not there: see --help, or give --libraries flowgen")
    write()
    start = time.perf_counter()
    numbers = arguments.steps, arguments.batch, arguments.points
    for found in cells(wanted, arguments.jobs, *numbers):
        content["cells"].append(found | {"commit": commit})
        write()
        print(
            f"{len(content['cells'])}: {_key(found)} w2 {found['w2']:.3f} w2_4 {found['w2_4']:.3f} "
            f"pe {found['path_energy']:.3f} ({time.perf_counter() - start:.0f} s)",
            flush=True,
        )


def _key(found: dict[str, Any]) -> Key:
    return found["task"], found["library"], found["method"], found["seed"]


def _check(file: Path, protocol: dict[str, Any]) -> None:
    """Stop if cells of a file were made otherwise."""
    theirs = json.loads(file.read_text())["protocol"]
    other = {name: value for name, value in theirs.items() if protocol.get(name) != value}
    if other:
        sys.exit(f"error: {file} was made with {other}: give the same or choose another file")


if __name__ == "__main__":
    main()
