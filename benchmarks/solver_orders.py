"""Claimed and observed order of every solver, and its error at a given cost, as docs/solvers.md.

Deterministic solvers run on the exact velocity of a mixture of Gaussians in float64: the order is
the slope of the error between 128 and 256 steps over 0.3 <= t <= 0.8 (equal steps in time, or in
half-log-SNR for methods that live there), the errors are those of whole flows from 0 to 1 on equal
steps. Stochastic solvers are judged by the variance of their result on a Gaussian, propagated
exactly: their steps are affine there.

    python benchmarks/solver_orders.py --write docs/solvers.md
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgen.integrators import (
    DDIM,
    RK4,
    AdamsBashforth,
    ConstantDiffusion,
    Counted,
    DPMSolver2M,
    DPMSolver3M,
    EDMChurn,
    EDMHeun,
    Euler,
    EulerMaruyama,
    ExponentialMultistep,
    Heun,
    InterpolantSDE,
    Leg,
    Midpoint,
    Noise,
    Overshoot,
    Ralston,
    RK4ThreeEighths,
    Stepper,
    StochasticDDIM,
    StochasticHeun,
    StochasticStepper,
    Uniform,
    UniPC,
    integrate,
)
from flowgen.paths import AffinePath, BrownianBridge, Linear, StochasticInterpolant

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from gaussian_bridge import GaussianBridge
from oracles import GaussianOracle, MixtureOracle

SOLVERS: dict[str, Stepper] = {
    "euler": Euler(),
    "midpoint": Midpoint(),
    "heun": Heun(),
    "ralston": Ralston(),
    "rk4": RK4(),
    "rk4_38": RK4ThreeEighths(),
    "ab2": AdamsBashforth(2),
    "ab3": AdamsBashforth(3),
    "ab4": AdamsBashforth(4),
    "ddim": DDIM(),
    "dpmpp_2m": DPMSolver2M(),
    "dpmpp_3m": DPMSolver3M(),
    "unipc1": UniPC(1),
    "unipc2": UniPC(2),
    "unipc3": UniPC(3),
    "edm_heun": EDMHeun(),
}
"""Deterministic solvers by the names of their configs."""

STOCHASTIC: dict[str, StochasticStepper | InterpolantSDE] = {
    "euler_maruyama": EulerMaruyama(ConstantDiffusion(0.3)),
    "sde_heun": StochasticHeun(ConstantDiffusion(0.3)),
    "ddim_stochastic": StochasticDDIM(),
    "edm_churn": EDMChurn(3.0, s_min=0.0, s_max=99.0, s_noise=1.0),
    "overshoot": Overshoot(),
    "interpolant_sde": InterpolantSDE(0.3),
}
"""Stochastic solvers by the names of their configs."""

COSTS = (8, 16, 32)
MEAN, STD = 1.5, 0.6


def mixture() -> MixtureOracle:
    """The exact field: two modes in the plane, on the linear path."""
    oracle = MixtureOracle(
        torch.tensor([0.4, 0.6]),
        torch.tensor([[-1.2, 0.4], [0.9, -0.7]]),
        torch.tensor([0.3, 0.5]),
    )
    oracle.path = AffinePath(Linear())  # pyright: ignore[reportAttributeAccessIssue]
    return oracle


def even(stepper: Stepper, steps: int) -> Tensor:
    """Nodes from 0.3 to 0.8, at equal distances in the variable of the method."""
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if isinstance(stepper, ExponentialMultistep | EDMHeun):
        low, high = (math.log(t / (1 - t)) for t in (0.3, 0.8))
        return torch.sigmoid(low + (high - low) * u)
    return 0.3 + 0.5 * u


def observed(stepper: Stepper, x: Tensor) -> float:
    """Slope of the error between 128 and 256 steps."""
    field, errors = mixture(), []
    exact = integrate(RK4(), field, x, even(RK4(), 2000))
    for steps in (128, 256):
        end = integrate(stepper, field, x, even(stepper, steps))
        errors.append(float((end - exact).norm()))
    return math.log2(errors[0] / errors[1])


def cost(stepper: Stepper, steps: int) -> int:
    """Evaluations of a flow from 0 to 1 in so many steps."""
    counted = Counted(mixture())
    integrate(stepper, counted, torch.zeros(1, 2), Uniform()(steps))
    return counted.nfe


def steps_within(nfe: int, evaluations: Callable[[int], int]) -> int | None:
    """Most steps that cost no more than ``nfe``."""
    fitting = [steps for steps in range(1, nfe + 1) if evaluations(steps) <= nfe]
    return max(fitting, default=None)


def deterministic_table() -> list[str]:
    """Rows of the solvers of the ODE."""
    x = torch.randn(256, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    field = mixture()
    exact = integrate(RK4(), field, x, Uniform()(1000))
    head = " | ".join(f"error at {nfe}" for nfe in COSTS)
    rows = [
        f"| `sampler=` | order | observed | evaluations of 10 steps | {head} |",
        "| --- " * (4 + len(COSTS)) + "|",
    ]
    for name, stepper in SOLVERS.items():
        cells = [f"`{name}`", str(stepper.order), f"{observed(stepper, x[:16]):.2f}"]
        cells.append(str(cost(stepper, 10)))
        for nfe in COSTS:
            steps = steps_within(nfe, lambda n, s=stepper: cost(s, n))
            if steps is None:
                cells.append("-")
                continue
            end = integrate(stepper, field, x, Uniform()(steps))
            cells.append(f"{float((end - exact).square().mean().sqrt()):.1e}")
        rows.append("| " + " | ".join(cells) + " |")
    return rows


class _Given(Noise):
    """Noise 1 in the last row alone, which measures how strongly a step is driven."""

    def __init__(self) -> None:
        super().__init__(0, range(3))

    def like(self, x: Tensor) -> Tensor:
        return torch.tensor([[0.0], [0.0], [1.0]], dtype=x.dtype)


def gaussian(stepper: StochasticStepper | InterpolantSDE) -> tuple[Any, float, float]:
    """The exact field of a Gaussian, with the variance at t = 0.1 and at t = 0.9."""
    if isinstance(stepper, InterpolantSDE):
        bridge = GaussianBridge(StochasticInterpolant(Linear(), BrownianBridge(0.8)))
        variance = bridge.moments(torch.tensor([0.1, 0.9], dtype=torch.float64))[1].tolist()
        return bridge, variance[0], variance[1]
    field = GaussianOracle(torch.tensor([MEAN]), torch.tensor([[STD**2]]))
    field.path = AffinePath(Linear())  # pyright: ignore[reportAttributeAccessIssue]
    return field, (0.1 * STD) ** 2 + 0.9**2, (0.9 * STD) ** 2 + 0.1**2


def variance_error(stepper: StochasticStepper | InterpolantSDE, steps: int) -> float:
    """Error of the variance at t = 0.9 of a Gaussian started exactly at t = 0.1."""
    field, variance, exact = gaussian(stepper)
    nodes = (0.1 + 0.8 * Uniform()(steps)).tolist()
    x = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
    begun = stepper.begin(field, x, Leg(tuple(nodes), steps, final=False, noise=_Given()))
    for s, t in zip(nodes[:-1], nodes[1:], strict=True):
        shift, moved, noisy = begun.step(field, x, s, t).flatten().tolist()
        variance = (moved - shift) ** 2 * variance + (noisy - shift) ** 2
    return abs(variance - exact)


def stochastic_table() -> list[str]:
    """Rows of the stochastic solvers."""
    head = " | ".join(f"error of the variance, {steps} steps" for steps in COSTS)
    rows = [
        f"| `sampler=` | weak order | observed | {head} |",
        "| --- " * (3 + len(COSTS)) + "|",
    ]
    for name, stepper in STOCHASTIC.items():
        slope = math.log2(variance_error(stepper, 128) / variance_error(stepper, 256))
        errors = [f"{variance_error(stepper, steps):.1e}" for steps in COSTS]
        cells = [f"`{name}`", str(stepper.order), f"{slope:.2f}", *errors]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def page() -> str:
    """The page, whole."""
    return "\n".join(
        [
            "# Orders of the solvers",
            "",
            "Written by `python benchmarks/solver_orders.py --write docs/solvers.md`.",
            "",
            "The error of a method of order $p$ falls as $h^p$ with the size $h$ of its steps.",
            "Observed is the slope between 128 and 256 steps on the exact velocity of a mixture",
            "of two Gaussians, over $0.3 \\le t \\le 0.8$; in time, or in half-log-SNR for the",
            "methods from `ddim` on. The errors are root mean squares of whole flows from noise to",
            "data on equal steps in time, with at most so many evaluations of the field.",
            "",
            *deterministic_table(),
            "",
            "On equal steps in time the exponential methods (`ddim` to `edm_heun`) start and end",
            "with steps of infinite size in their own variable, so this smooth field favours the",
            "others. `unipc3` has order 3 from any start and comes near 4 where it starts close to",
            "pure noise. `dopri5` and its relatives choose their steps themselves, by tolerance,",
            "and are of order 5, 8, 3, 2 and 2.",
            "",
            "## Stochastic solvers",
            "",
            "What counts is the law of the result. On Gaussian data every step is affine, so mean",
            "and variance are propagated exactly, without drawing anything; the weak order is the",
            "slope of the error of the variance over $0.1 \\le t \\le 0.9$.",
            "",
            *stochastic_table(),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="file to write; printed if it is not given")
    text = page()
    target = parser.parse_args().write
    if target is None:
        print(text)
    else:
        target.write_text(text)


if __name__ == "__main__":
    main()
