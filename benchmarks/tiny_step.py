"""What a step of a tiny network costs through the public path, beside bare loops, in turns.

    OMP_NUM_THREADS=1 python benchmarks/tiny_step.py > benchmarks/results/tiny_step.json

flowgen's MLP, three layers of 64, from noise to two moons at batch 256, 1500 steps. `bare` is the
shortest loop that learns: noise, times, the loss, AdamW as torch has it by default. `bare, whole`
does by hand what the trainer does to the weights: fused AdamW, clipping, the averaged weights.
flowgen's figures are of `flowgen train` with its data loader, averaged weights, clipping, checks, a
log every 50 steps and checkpoints. All take turns of 50 steps in one process, on one thread.
Microseconds of process time, medians of the turns after the first fifth; ratios are to the bare
turns beside.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

from flowgen import __version__
from flowgen.cli.main import main
from flowgen.core import generator_for
from flowgen.data import Moons
from flowgen.models import MLP

BATCH, TURN = 256, 50
SETTINGS = (
    *("data=moons", "model=mlp", "model.width=64", "model.depth=3", f"data.batch_size={BATCH}"),
    *("trainer=cpu", f"trainer.log_every_n_steps={TURN}", "callbacks=quiet", "threads=1"),
    *(f"+callbacks.turns._target_={__name__}.Turns", "logger=csv"),
)
PATHS = {"flowgen": (), "flowgen, compile=step": ("compile=step",)}


class Bare:
    """A plain loop.

    Args:
        whole: Whether it clips and averages as the trainer does.
    """

    def __init__(self, *, whole: bool) -> None:
        self.network = MLP((2,), width=64, depth=3)
        self.parameters = list(self.network.parameters())
        self.averaged = [each.detach().clone() for each in self.parameters]
        fused = {"fused": True} if whole else {}
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-3, **fused)
        self.whole = whole
        self.x = Moons().sample(10_000, generator=generator_for(0))

    def __call__(self) -> None:
        """Take the steps of a turn."""
        for _ in range(TURN):
            x_1 = self.x[torch.randint(len(self.x), (BATCH,))]
            x_0, t = torch.randn(BATCH, 2), torch.rand(BATCH)
            x_t = x_0 + t[:, None] * (x_1 - x_0)
            loss = (self.network(x_t, t) - (x_1 - x_0)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            if self.whole:
                nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            if self.whole:
                values = [each.detach() for each in self.parameters]
                torch._foreach_lerp_(self.averaged, values, 0.001)


class Turns(Callback):
    """Lets the bare loops take their turns between those of the trainer, and keeps all times."""

    times: dict[str, list[float]]

    def next_due(self, step: int) -> int | None:
        """Return the end of the trainer's turn."""
        return step - step % TURN + TURN

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the first turn of the trainer."""
        self.loops = {"bare": Bare(whole=False), "bare, whole": Bare(whole=True)}
        Turns.times = {name: [] for name in (*self.loops, "flowgen")}
        self.start = time.process_time()

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        """End the turn of the trainer, and give the others theirs."""
        if trainer.global_step % TURN:
            return
        Turns.times["flowgen"].append(time.process_time() - self.start)
        for name, loop in self.loops.items():
            start = time.process_time()
            loop()
            Turns.times[name].append(time.process_time() - start)
        self.start = time.process_time()


def turns(words: tuple[str, ...], steps: int) -> dict[str, list[float]]:
    """Return the seconds of the turns of each loop, without the first fifth."""
    with tempfile.TemporaryDirectory() as folder:
        run = (f"trainer.max_steps={steps}", f"run_dir={Path(folder) / 'run'}")
        with redirect_stdout(sys.stderr):
            if main(["train", *SETTINGS, *run, *words]):
                raise SystemExit("the run failed")
    return {name: each[len(each) // 5 :] for name, each in Turns.times.items()}


def compare() -> None:
    parser = argparse.ArgumentParser(description="Microseconds of a step of a tiny network.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {
        "flowgen": __version__,
        "torch": torch.__version__,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
    }
    middle: Callable[[list[float]], float] = statistics.median
    for path, words in PATHS.items():
        times: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for name, each in turns(words, arguments.steps).items():
                times.setdefault(name, []).extend(each)
        ratios = {
            name: middle([a / b for a, b in zip(each, times["bare"], strict=True)])
            for name, each in times.items()
        }
        found[path] = {
            "microseconds": {n: round(1e6 * middle(each) / TURN, 1) for n, each in times.items()},
            "ratio_to_bare": {name: round(ratio, 3) for name, ratio in ratios.items()},
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    compare()
