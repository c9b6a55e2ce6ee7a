"""Steps a second of `flowgen train` with and without exact pairs, beside torchcfm's loop, in turns.

    OMP_NUM_THREADS=1 python benchmarks/pairing_speed.py > benchmarks/results/pairing_speed.json

All train the same network (flowgen's MLP, three layers of 64) from noise to two moons at batch 256.
flowgen's figure is that of its whole trainer, with averaged weights, logs and checks: the median
of `ms/step` in metrics.csv after the first quarter. torchcfm's is a plain loop around its exact
matcher with AdamW, as its examples have it. It is optional: `pip install --no-deps --target peer
torchcfm==1.0.7` and PYTHONPATH=peer. Needs an idle machine with a core to spare for the pairing.
"""

import argparse
import csv
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from flowgen import __version__
from flowgen.core import generator_for
from flowgen.data import Moons
from flowgen.models import MLP

BATCH = 256
OURS = {
    "flowgen, independent": ["coupling=independent"],
    "flowgen, exact": ["coupling=exact_assignment"],
    "flowgen, exact, in the step": ["coupling=exact_assignment", "pairing.ahead=0"],
    "flowgen, independent, compile=step": ["coupling=independent", "compile=step"],
    "flowgen, exact, compile=step": ["coupling=exact_assignment", "compile=step"],
}
THEIRS = {
    "torchcfm, independent": "ConditionalFlowMatcher",
    "torchcfm, exact": "ExactOptimalTransportConditionalFlowMatcher",
}


def trainer(words: list[str], steps: int) -> float:
    """Return the median milliseconds of a step of `flowgen train`."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = [
            *("data=moons", "model=mlp", "model.width=64", "model.depth=3"),
            *(f"data.batch_size={BATCH}", f"trainer.max_steps={steps}", "trainer=cpu"),
            *("trainer.log_every_n_steps=100", "callbacks=quiet", f"run_dir={run}"),
        ]
        command = [sys.executable, "-m", "flowgen", "train", *settings, *words]
        subprocess.run(command, check=True, capture_output=True, env=os.environ)
        with (run / "metrics.csv").open() as file:
            times = [float(row["ms/step"]) for row in csv.DictReader(file) if row.get("ms/step")]
    return statistics.median(times[len(times) // 4 :])


def loop(matcher: Any, steps: int, seed: int) -> float:
    """Return the milliseconds of a step of a plain loop around a matcher of torchcfm."""
    torch.manual_seed(seed)
    network = MLP((2,), width=64, depth=3)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    generator = generator_for(seed)
    x_1 = Moons().sample(10_000, generator=generator)
    start = 0.0
    for step in range(steps):
        if step == steps // 4:
            start = time.perf_counter()
        rows = torch.randint(len(x_1), (BATCH,), generator=generator)
        x_0 = torch.randn(BATCH, 2, generator=generator)
        t, x_t, u_t = matcher.sample_location_and_conditional_flow(x_0, x_1[rows])
        loss = (network(x_t, t) - u_t).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return 1e3 * (time.perf_counter() - start) / (steps - steps // 4)


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps a second with and without exact pairs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000, help="of each measurement")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    times: dict[str, list[float]] = {}
    peer = importlib.util.find_spec("torchcfm") is not None
    for seed in range(arguments.rounds):
        for name, words in OURS.items():
            times.setdefault(name, []).append(trainer(words, arguments.steps))
        if peer:
            module = importlib.import_module("torchcfm.conditional_flow_matching")
            for name, kind in THEIRS.items():
                matcher = getattr(module, kind)(sigma=0.1)
                times.setdefault(name, []).append(loop(matcher, arguments.steps, seed))
    rate = {name: 1e3 / statistics.median(each) for name, each in times.items()}
    pairs = [
        ("flowgen, exact", "flowgen, independent"),
        ("flowgen, exact, compile=step", "flowgen, independent, compile=step"),
        ("flowgen, exact", "torchcfm, exact"),
        ("flowgen, exact, compile=step", "torchcfm, exact"),
    ]
    found = {
        "flowgen": __version__,
        "torch": torch.__version__,
        "batch": BATCH,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "cores": os.cpu_count(),
        "steps_per_second": {name: round(value, 1) for name, value in rate.items()},
        "ratios": {f"{a} / {b}": round(rate[a] / rate[b], 3) for a, b in pairs if b in rate},
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
