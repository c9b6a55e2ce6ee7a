"""Images per second of training and sampling: flowgen's own choices against the plain public way.

The peer is what public training scripts do: eager float32 (with TF32 products on a GPU), torch's
fused attention, default AdamW, the average of the weights by a Python loop. flowgen's rows are the
same network with the same weights on the same batch: in bfloat16 as it chooses by itself, and with
compiled blocks too, as it chooses for long runs. All take turns in one process. A row counts only
if its loss and its samples are those of the peer to within bfloat16's rounding. Medians of the
rounds; with one thread the seconds are process time, as other work may share the machine.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py > benchmarks/results/throughput.json

``--device cuda`` trains and samples DiT-S/2, B/2 and XL/2 on latents of 4x32x32 instead, and adds
the share of the measured limit of matrix products and the peak memory.
"""

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from flowgen import __version__
from flowgen.cli.compiling import compile_network
from flowgen.core import Pair
from flowgen.integrators import Euler, integrate
from flowgen.integrators import Uniform as UniformGrid
from flowgen.models import DiT, PredictionField, UNet
from flowgen.objectives import FlowMatching, Uniform
from flowgen.paths import AffinePath, Linear, Velocity
from flowgen.training.ema import EMA

CLASSES = 10
PIXELS, LATENTS = (1, 28, 28), (4, 32, 32)
STEPS = 10
"""Euler steps of a sample."""

PATH = AffinePath(Linear())


def dit(shape: Sequence[int], patch: int, width: int, depth: int, heads: int) -> Callable[[], DiT]:
    return lambda: DiT(shape, CLASSES, patch=patch, width=width, depth=depth, heads=heads)


def unet() -> UNet:
    return UNet(PIXELS, CLASSES, width=32, multipliers=(1, 2, 2), num_blocks=1)


CASES: dict[str, dict[str, tuple[Callable[[], nn.Module], Sequence[int], int, int]]] = {
    "cpu": {
        "DiT 1.9 M, 28x28, patch 4": (dit(PIXELS, 4, 128, 6, 4), PIXELS, 128, 64),
        "U-Net 1.06 M, 28x28": (unet, PIXELS, 32, 64),
    },
    "cuda": {  # width, depth and heads of Peebles and Xie 2023 (arXiv 2212.09748, table 1)
        "DiT-S/2, 4x32x32": (dit(LATENTS, 2, 384, 12, 6), LATENTS, 256, 64),
        "DiT-B/2, 4x32x32": (dit(LATENTS, 2, 768, 12, 12), LATENTS, 256, 64),
        "DiT-XL/2, 4x32x32": (dit(LATENTS, 2, 1152, 28, 16), LATENTS, 256, 64),
    },
}
"""Network, shape of an image, images of a training step and of an evaluation."""


class Peer:
    """The plain way to train and to sample a network."""

    def __init__(self, network: nn.Module, device: str) -> None:
        self.network = copy.deepcopy(network).to(device)
        self.average = copy.deepcopy(self.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.0)

    def train(self, x_1: Tensor, cond: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Take one step with a learning rate of 0; return the loss."""
        x_0 = torch.randn(x_1.shape, generator=generator, device=x_1.device)
        t = Uniform()(len(x_1), generator=generator, device=x_1.device)
        at = t[:, None, None, None]
        velocity = self.network((1 - at) * x_0 + at * x_1, t, cond)
        loss = (velocity - (x_1 - x_0)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for mean, value in zip(
                self.average.parameters(), self.network.parameters(), strict=True
            ):
                mean.mul_(0.999).add_(value, alpha=0.001)
        return loss.detach()

    @torch.no_grad()
    def sample(self, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Return Euler's solution."""
        for i in range(STEPS):
            t = torch.full((len(x),), i / STEPS, device=x.device)
            x = x + self.network(x, t, cond) / STEPS
        return x


class Ours:
    """The parts of flowgen as its training loop and its pipeline compose them."""

    def __init__(self, network: nn.Module, device: str, *, compiled: bool) -> None:
        self.field = PredictionField(copy.deepcopy(network), PATH, Velocity()).to(device)
        self.sampled = copy.deepcopy(self.field).eval().requires_grad_(False)
        self.sampled.in_bfloat16 = True
        self.ema = EMA(self.field)
        self.objective = FlowMatching(PATH, Uniform())
        self.optimizer = torch.optim.AdamW(self.field.parameters(), lr=0.0, fused=True)
        if compiled:
            compile_network(self.field.network)
            compile_network(self.sampled.network)

    def train(self, x_1: Tensor, cond: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Take one step with a learning rate of 0; return the loss."""
        x_0 = torch.randn(x_1.shape, generator=generator, device=x_1.device)
        with torch.autocast(x_1.device.type, torch.bfloat16):
            loss = self.objective(self.field, Pair(x_0, x_1, cond), generator=generator).total()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.field.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update(self.field, 10**6)
        return loss.detach()

    @torch.no_grad()
    def sample(self, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """Return Euler's solution."""
        return integrate(Euler(), self.sampled, x, UniformGrid()(STEPS), cond)


def seconds(work: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begin = clock()
    work()
    return clock() - begin


def medians(
    works: dict[str, Callable[[], Any]], rounds: int, device: str, warm: int
) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(warm):
        for work in works.values():
            work()
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work, device))
    return {name: statistics.median(each) for name, each in times.items()}


def agree(found: dict[str, Tensor], allowed: float) -> dict[str, float]:
    """Return the relative distance of each result from the peer's; end where one is too far."""
    expected = found["peer"].double()
    far = {
        name: float((value.double() - expected).norm() / expected.norm())
        for name, value in found.items()
    }
    if max(far.values()) > allowed:
        sys.exit(f"not the peer's results: {far}")
    return {name: float(f"{value:.1e}") for name, value in far.items() if name != "peer"}


def measure(name: str, device: str, rounds: int, limit: float | None) -> dict[str, Any]:
    build, shape, batch, at_once = CASES[device][name]
    torch.manual_seed(0)
    network = build()
    with torch.no_grad():  # at its start the network answers zero
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    variants: dict[str, Peer | Ours] = {"peer": Peer(network, device)}
    variants["flowgen"] = Ours(network, device, compiled=False)
    variants["flowgen, compiled"] = Ours(network, device, compiled=True)
    draws = torch.Generator().manual_seed(1)

    def data(rows: int) -> tuple[Tensor, dict[str, Tensor]]:
        label = torch.arange(rows) % CLASSES
        return torch.randn(rows, *shape, generator=draws).to(device), {"label": label.to(device)}

    result: dict[str, Any] = {"parameters": sum(p.numel() for p in network.parameters())}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *shape), torch.zeros(1), {"label": torch.zeros(1, dtype=torch.long)})
    operations = counter.get_total_flops()
    warm = 20 if device == "cuda" else 1
    x_1, cond = data(batch)
    steps = {
        name: lambda v=v: v.train(x_1, cond, torch.Generator(device).manual_seed(2))
        for name, v in variants.items()
    }
    difference = agree({name: step() for name, step in steps.items()}, 0.01)
    if device == "cuda":
        result["peak_GiB"] = {each: peak_memory(step) for each, step in steps.items()}
    times = medians(steps, rounds, device, warm)
    result["train"] = rows(times, batch, difference, 3 * operations, limit)
    for task, count in (("sample", at_once), ("sample one", 1)):
        x, cond_ = data(count)
        draw = {
            name: lambda v=v, x=x, cond=cond_: v.sample(x, cond) for name, v in variants.items()
        }
        difference = agree({name: each() for name, each in draw.items()}, 0.02)
        times = medians(draw, rounds, device, warm)
        result[task] = rows(times, count * STEPS, difference, operations, limit)
    return result


def rows(
    times: dict[str, float],
    images: int,
    difference: dict[str, float],
    operations: int,
    limit: float | None,
) -> dict[str, Any]:
    """Return images (evaluations of one image, in sampling) per second, and what follows."""
    table: dict[str, Any] = {}
    for name, median in times.items():
        rate = images / median
        table[name] = {"per_second": round(rate, 1), "times_peer": round(times["peer"] / median, 2)}
        if name in difference:
            table[name]["relative_difference"] = difference[name]
        if limit is not None:
            table[name]["of_limit"] = round(rate * operations / limit, 3)
    return table


def peak_memory(step: Callable[[], Any]) -> float:
    torch.cuda.reset_peak_memory_stats()
    step()
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)


def product_limit(device: str) -> float:
    """Return the operations a second of a large product in bfloat16."""
    side = 8192 if device == "cuda" else 1024
    a, b = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
    times = medians({"product": lambda: a @ b}, 20, device, 5)
    return 2 * side**3 / times["product"]


def processor() -> str:
    """Return what Linux tells of an x86 processor, and platform's answer elsewhere."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    told = {name.strip(): value.strip() for name, value in pairs}
    if "model name" not in told or "cpu family" not in told:
        return platform.processor() or platform.machine()
    return f"{told['model name']}, family {told['cpu family']}, model {told['model']}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time training and sampling.")
    parser.add_argument("--device", choices=list(CASES), default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="the cases whose name contains this")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    # A process of one variant never meets another's shapes; here all of them share the code.
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.automatic_dynamic_shapes = False
    limit = product_limit(options.device)
    gpu = options.device == "cuda"
    report: dict[str, Any] = {
        "flowgen": __version__,
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if gpu else processor(),
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "euler_steps": STEPS,
        "bfloat16_product_TFLOP_per_second": round(limit / 1e12, 3),
    }
    for name in CASES[options.device]:
        if options.only is None or options.only in name:
            report[name] = measure(name, options.device, options.rounds, limit)
            print(name, "done", file=sys.stderr)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
