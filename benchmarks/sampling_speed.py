"""Time of a sampling loop beside the bare model calls and beside the peers' loops, in one run.

Cases: a small MLP on points, where the loop itself costs; a DiT on images, where the model does;
the same DiT with classifier-free guidance. Every variant must first reproduce the plain Euler
result on the same noise. The peers are used as their documentation shows; flow_matching is optional
(it is no dependency: `pip install --no-deps flow_matching`). All variants are timed in turn,
several times over; medians are printed as JSON.

    OMP_NUM_THREADS=1 python benchmarks/sampling_speed.py --rounds 7
"""

import argparse
import copy
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flowgen import __version__
from flowgen.integrators import Euler, Uniform, integrate
from flowgen.models import MLP, DiT, Guided, LabelConditioner, PredictionField
from flowgen.paths import AffinePath, Linear, Velocity

CLASSES = 10
SCALE = 2.0


def field_of(network: nn.Module) -> PredictionField:
    """Return the velocity field of a network with random weights that answer something."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    field = PredictionField(network, AffinePath(Linear()), Velocity())
    return field.eval().requires_grad_(False)


def bare(field: PredictionField, x: Tensor, steps: int, cond: Any) -> Callable[[], Tensor]:
    """Euler by hand on the network itself: the model calls and one addition."""

    def run() -> Tensor:
        state = x
        for i in range(steps):
            t = torch.full((1,), i / steps).expand(len(x))
            state = state + field.network(state, t, cond) / steps
        return state

    return run


def calls(field: PredictionField, x: Tensor, steps: int, cond: Any) -> Callable[[], Tensor]:
    """The model calls alone."""
    t = torch.full((1,), 0.5).expand(len(x))

    def run() -> Tensor:
        out = x
        for _ in range(steps):
            out = field.network(x, t, cond)
        return out

    return run


def ours(field: Any, x: Tensor, steps: int, cond: Any) -> Callable[[], Tensor]:
    """The integrator of flowgen."""
    grid = Uniform()(steps)
    return lambda: integrate(Euler(), field, x, grid, cond)


def compiled(field: Any, x: Tensor, steps: int, cond: Any) -> Callable[[], Tensor]:
    """The integrator of flowgen with the network compiled, as by compile=true."""
    field = copy.deepcopy(field)
    (field.field if isinstance(field, Guided) else field).network.compile()
    return ours(field, x, steps, cond)


def torchdiffeq(field: PredictionField, x: Tensor, steps: int, cond: Any) -> Callable[[], Tensor]:
    """The Euler steps of torchdiffeq on the network."""
    from torchdiffeq import odeint

    grid = torch.linspace(0, 1, steps + 1)

    def velocity(t: Tensor, state: Tensor) -> Tensor:
        return field.network(state, t.expand(len(state)), cond)

    return lambda: odeint(velocity, x, grid, method="euler")[-1]


def flow_matching(field: PredictionField, x: Tensor, steps: int, cond: Any) -> Callable[[], Tensor]:
    """The ODESolver of flow_matching with its Euler steps, as in its examples."""
    from flow_matching.solver import ODESolver
    from flow_matching.utils import ModelWrapper

    class Wrapped(ModelWrapper):
        def forward(self, x: Tensor, t: Tensor, **extras: Any) -> Tensor:
            return self.model(x, t.expand(len(x)), cond)

    solver = ODESolver(velocity_model=Wrapped(field.network))
    return lambda: solver.sample(x_init=x, method="euler", step_size=1 / steps)


def diffusers(
    field: PredictionField, x: Tensor, steps: int, cond: Any, *, guided: bool = False
) -> Callable[[], Tensor]:
    """The loop of diffusers' pipelines: doubled batch where guided, scheduler.step."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    sigmas = [1 - i / steps for i in range(steps)]
    null = {"label": torch.full((len(x),), CLASSES)}

    def run() -> Tensor:
        scheduler.set_timesteps(sigmas=sigmas)
        state = x
        for timestep in scheduler.timesteps:
            if guided:
                both = torch.cat([state] * 2)
                labels = {"label": torch.cat([null["label"], cond["label"]])}
                t = 1 - timestep.expand(len(both)) / 1000
                uncond, text = field.network(both, t, labels).chunk(2)
                velocity = uncond + SCALE * (text - uncond)
            else:
                t = 1 - timestep.expand(len(state)) / 1000
                velocity = field.network(state, t, cond)
            state = scheduler.step(-velocity, timestep, state, return_dict=False)[0]
        return state

    return run


def measure(variants: dict[str, Callable[[], Tensor]], rounds: int, check: str) -> dict[str, Any]:
    """Return the median milliseconds of each variant, and the largest difference of results."""
    expected = variants[check]()
    differences = {}
    for name, run in variants.items():
        got = run()
        if name != "model calls" and "interval" not in name:
            differences[name] = float((got - expected).abs().max())
            if differences[name] > 1e-3:
                raise SystemExit(f"{name} differs from {check} by {differences[name]}")
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {
        "median_ms": {name: round(statistics.median(each), 2) for name, each in times.items()},
        "largest_difference": {name: float(f"{d:.1e}") for name, d in differences.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    peers = importlib.util.find_spec("flow_matching") is not None
    generator = torch.Generator().manual_seed(1)
    result: dict[str, Any] = {
        "flowgen": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
    }
    with torch.no_grad():
        points = field_of(MLP((2,), width=64, depth=3))
        x = torch.randn(1024, 2, generator=generator)
        variants = {
            "model calls": calls(points, x, 100, None),
            "bare loop": bare(points, x, 100, None),
            "flowgen": ours(points, x, 100, None),
            "torchdiffeq": torchdiffeq(points, x, 100, None),
        }
        if not arguments.no_compile:
            variants["flowgen compiled"] = compiled(points, x, 100, None)
        if peers:
            variants["flow_matching"] = flow_matching(points, x, 100, None)
        result["mlp, 1024 points, 100 euler steps"] = measure(
            variants, arguments.rounds, "bare loop"
        )

        images = field_of(DiT((1, 28, 28), CLASSES, patch=4, width=128, depth=6, heads=4))
        x = torch.randn(16, 1, 28, 28, generator=generator)
        cond = {"label": torch.arange(16) % CLASSES}
        variants = {
            "model calls": calls(images, x, 50, cond),
            "bare loop": bare(images, x, 50, cond),
            "flowgen": ours(images, x, 50, cond),
            "diffusers": diffusers(images, x, 50, cond),
        }
        if not arguments.no_compile:
            variants["flowgen compiled"] = compiled(images, x, 50, cond)
        if peers:
            variants["flow_matching"] = flow_matching(images, x, 50, cond)
        result["dit, 16 images, 50 euler steps"] = measure(variants, arguments.rounds, "bare loop")

        null = LabelConditioner(CLASSES).null
        guided = Guided(images, SCALE, null)
        part = Guided(images, SCALE, null, interval=(0.26, 0.78))
        variants = {
            "diffusers": diffusers(images, x, 50, cond, guided=True),
            "flowgen": ours(guided, x, 50, cond),
            "flowgen, interval [0.26, 0.78)": ours(part, x, 50, cond),
        }
        if not arguments.no_compile:
            variants["flowgen compiled"] = compiled(guided, x, 50, cond)
        result["dit, 16 images, 50 guided euler steps"] = measure(
            variants, arguments.rounds, "diffusers"
        )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
