"""What a MeanFlow step costs beside a flow-matching step of the same network, in turns in one run.

    OMP_NUM_THREADS=1 python benchmarks/mean_flow_step.py > benchmarks/results/mean_flow_step.json

Three ways to differentiate along the flow: the package's forward mode, on the quarter of the rows
that has an interval; a difference quotient on these rows; and torch's forward mode on all rows, as
public code does. The first and the last must give one loss. Process time on one thread, medians.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowgen import __version__
from flowgen.core import Loss, Objective, Pair, expand, generator_for
from flowgen.distill import Difference, Eulerian, OfData, TwoTimes
from flowgen.models import MLP, DiT, FlowMapField, math_attention
from flowgen.objectives import FlowMatching
from flowgen.paths import AffinePath, Linear, Velocity

PATH = AffinePath(Linear())
DIAGONAL = 0.75
SMOOTH = {"interval": True, "max_frequency": 10.0}
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "DiT, 28x28, 49 tokens, 1.9 M, batch 64": (
        lambda: DiT((1, 28, 28), 10, patch=4, width=128, depth=6, heads=4, **SMOOTH),
        (1, 28, 28),
        64,
    ),
    "DiT, 8x8, 4 tokens, 1.0 M, batch 256": (
        lambda: DiT((1, 8, 8), 10, patch=4, width=128, depth=3, heads=4, **SMOOTH),
        (1, 8, 8),
        256,
    ),
    "MLP, 2-D, 0.2 M, batch 256": (lambda: MLP((2,), 10, **SMOOTH), (2,), 256),
}


class WholeBatch:
    """MeanFlow as public code has it: torch's forward mode on all rows, and a second pass."""

    def __init__(self) -> None:
        self.intervals = TwoTimes(diagonal=DIAGONAL)

    def __call__(
        self, model: FlowMapField, pair: Pair, *, generator: torch.Generator | None = None
    ) -> Loss:
        """Return the loss of each pair."""
        found = self.intervals(len(pair), generator=generator)
        s, t = found.s, found.t
        point = PATH.sample(pair, s, generator=generator)

        def mean_velocity(x: Tensor, s: Tensor) -> Tensor:
            return model.mean_velocity(x, s, t, pair.cond)

        with torch.no_grad(), math_attention():
            slope = torch.func.jvp(mean_velocity, (point.x_t, s), (point.v_t, torch.ones_like(s)))[
                1
            ]
        target = point.v_t + expand(t - s, slope) * slope
        u = mean_velocity(point.x_t, s)
        return Loss((u - target).square().flatten(1).mean(dim=1), pair, s)


def objectives() -> dict[str, Objective]:
    intervals = TwoTimes(diagonal=DIAGONAL)
    return {
        "flow matching": FlowMatching(PATH),
        "forward mode": Eulerian(PATH, intervals, OfData()),
        "difference": Eulerian(PATH, intervals, OfData(), derivative=Difference(0.005)),
        "torch, whole batch": WholeBatch(),  # pyright: ignore[reportReturnType]
    }


def measured(make: Callable[[], nn.Module], shape: tuple[int, ...], batch: int, rounds: int):
    """Return median seconds of a step by objective, and the losses of the first step."""
    fields, optimizers, times, losses = {}, {}, {}, {}
    for name in objectives():
        torch.manual_seed(0)
        network = make()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        fields[name] = FlowMapField(network, PATH, Velocity())
        optimizers[name] = torch.optim.AdamW(fields[name].parameters(), fused=True)
    for step in range(rounds + 2):
        for name, objective in objectives().items():
            generator = generator_for(step)
            x_0, x_1 = torch.randn(2, batch, *shape, generator=generator).unbind(0)
            label = torch.randint(10, (batch,), generator=generator)
            pair = Pair(x_0, x_1, {"label": label})
            start = time.process_time()
            optimizers[name].zero_grad()
            loss = objective(fields[name], pair, generator=generator).total()
            loss.backward()
            optimizers[name].step()
            times.setdefault(name, []).append(time.process_time() - start)
            losses.setdefault(name, loss.item())
    return {name: statistics.median(each[2:]) for name, each in times.items()}, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {"flowgen": __version__, "torch": torch.__version__, "rounds": arguments.rounds}
    for case, (make, shape, batch) in CASES.items():
        seconds, losses = measured(make, shape, batch, arguments.rounds)
        a, b = losses["forward mode"], losses["torch, whole batch"]
        if abs(a - b) > 1e-4 * abs(b):
            raise SystemExit(f"{case}: losses differ, {a} and {b}: times cannot be compared")
        plain = seconds["flow matching"]
        found[case] = {
            "flow matching, ms": round(1e3 * plain, 2),
            **{f"{name} / flow matching": round(s / plain, 3) for name, s in seconds.items()},
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
