"""Time of one pairing beside the peers', and how far each is from the optimum, in one run.

The source is normal; the data are eight Gaussians (d = 2) or smooth fields in [-1, 1] (d = 784: one
channel of 28 x 28, d = 3072: three of 32 x 32). A pairing starts from the samples and ends with the
index of the partners. torchcfm is optional (`pip install --no-deps torchcfm`); its time is that of
`sample_plan`, which draws pairs from the plan. All methods are timed in an order of chance, several
times over, by the CPU time of the process on one thread; medians are printed as JSON.

    OMP_NUM_THREADS=1 python benchmarks/couplings.py --rounds 5 > benchmarks/results/couplings.json

Exact methods are measured first. Then entropic plans at two strengths, in standard deviations of
the cost: flowgen's solver with a stored kernel, the same in the log domain alone, and POT's
`sinkhorn_log`, each up to its own tolerance of 1e-3 (L1 error of the marginals; POT's is the
Euclidean one, so it is given that divided by the root of n). The errors reached stand beside the
times. Largest n of slow peers are left out: see `MOST`.
"""

import argparse
import importlib.util
import json
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import lap
import numpy as np
import ot
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import interpolate

from flowgen import __version__
from flowgen.couplings import PairCosts, Sinkhorn, optimal_permutation

Pairing = Callable[[Tensor, Tensor], Tensor | None]

SIZES = (64, 256, 1024, 2048, 4096, 8192)
MOST = {"scipy": 2048, "lapx": 4096, "pot": 2048, "torchcfm": 8192, "pot sinkhorn_log": 1024}
"""Rows up to which a method is timed: beyond, one pairing takes minutes."""

STRENGTHS = (0.1, 0.02)
SHAPES = {2: None, 784: (1, 28), 3072: (3, 32)}


def clouds(n: int, d: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return source and data samples."""
    generator = torch.Generator().manual_seed(seed)
    x_0 = torch.randn(n, d, generator=generator)
    shape = SHAPES[d]
    if shape is None:
        angle = torch.randint(8, (n,), generator=generator) * torch.pi / 4
        centre = 5 * torch.stack([angle.cos(), angle.sin()], dim=1)
        return x_0, centre + torch.randn(n, 2, generator=generator)
    channels, side = shape
    coarse = torch.randn(n, channels, 8, 8, generator=generator)
    smooth = interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    return x_0, smooth.flatten(1).clamp(-1, 1)


def flowgen(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Ours."""
    return optimal_permutation(x_0, x_1)


def scipy(x_0: Tensor, x_1: Tensor) -> Tensor:
    """SciPy on the squared distances."""
    return torch.from_numpy(linear_sum_assignment(torch.cdist(x_1, x_0).square().numpy())[1])


def lapx(x_0: Tensor, x_1: Tensor) -> Tensor:
    """The fastest solver of lapx on the squared distances."""
    return torch.from_numpy(lap.lapjvh(torch.cdist(x_1, x_0).square().numpy())[2])


def pot(x_0: Tensor, x_1: Tensor) -> Tensor:
    """POT's network simplex with a limit that is not hit."""
    uniform = np.full(len(x_0), 1 / len(x_0))
    cost = torch.cdist(x_1, x_0).square().double().numpy()
    return torch.from_numpy(ot.emd(uniform, uniform, cost, numItermax=10_000_000).argmax(1))


def torchcfm() -> Pairing:
    """The sampler of torchcfm as its matchers use it; with replacement, so no permutation."""
    from torchcfm.optimal_transport import OTPlanSampler

    sampler = OTPlanSampler(method="exact")

    def run(x_0: Tensor, x_1: Tensor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its limit of iterations is hit for large n
            sampler.sample_plan(x_0, x_1)

    return run


def entropic(n: int, d: int, rounds: int) -> dict[str, Any]:
    """Return median milliseconds of entropic plans, and the largest error of the marginals."""
    found: dict[str, Any] = {}
    for strength in STRENGTHS:
        times: dict[str, list[float]] = {}
        errors: dict[str, float] = {}
        for seed in range(rounds):
            x_0, x_1 = clouds(n, d, seed)
            epsilon = strength * PairCosts(x_0, x_1).std
            for name, solve in _entropic_methods(epsilon).items():
                if n > MOST.get(name, n):
                    continue
                start = time.process_time()
                error = solve(x_0, x_1)
                times.setdefault(name, []).append(1e3 * (time.process_time() - start))
                errors[name] = max(error, errors.get(name, 0.0))
        found[f"epsilon {strength}"] = {
            "median_ms": {name: round(statistics.median(each), 3) for name, each in times.items()},
            "largest_error": {name: float(f"{error:.1e}") for name, error in errors.items()},
        }
    return found


def _entropic_methods(epsilon: float) -> dict[str, Callable[[Tensor, Tensor], float]]:
    def stored(x_0: Tensor, x_1: Tensor) -> float:
        return Sinkhorn(1e-3, 20_000)(PairCosts(x_0, x_1), epsilon).error

    def logs(x_0: Tensor, x_1: Tensor) -> float:
        return Sinkhorn(1e-3, 20_000, stored=False)(PairCosts(x_0, x_1), epsilon).error

    def pot(x_0: Tensor, x_1: Tensor) -> float:
        n = len(x_0)
        uniform = np.full(n, 1 / n)
        cost = torch.cdist(x_0, x_1).square().double().numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stop = 1e-3 / n**0.5
            plan: Any = ot.bregman.sinkhorn_log(
                uniform, uniform, cost, 2 * epsilon, 20_000, stopThr=stop
            )
        return float(abs(plan.sum(0) - 1 / n).sum() + abs(plan.sum(1) - 1 / n).sum())

    return {"flowgen": stored, "flowgen, log domain": logs, "pot sinkhorn_log": pot}


def measure(methods: dict[str, Pairing], n: int, d: int, rounds: int) -> dict[str, Any]:
    """Return the median milliseconds of each method and its gap to the best of all, relative."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    gaps: dict[str, float] = {}
    for seed in range(rounds):
        x_0, x_1 = clouds(n, d, seed)
        found: dict[str, Tensor] = {}
        # Whoever is first finds the samples out of the cache, and whoever comes after a method that
        # calls the same routines finds these in it: in an order of chance.
        for name in random.Random(seed).sample(list(methods), len(methods)):
            if n > MOST.get(name, n):
                continue
            method = methods[name]
            start = time.process_time()
            index = method(x_0, x_1)
            times[name].append(1e3 * (time.process_time() - start))
            if index is not None:
                found[name] = index.long()
        cost = torch.cdist(x_1.double(), x_0.double()).square()
        totals = {name: float(cost[torch.arange(n), index].sum()) for name, index in found.items()}
        best = min(totals.values())
        for name, total in totals.items():
            gaps[name] = max(total / best - 1, gaps.get(name, 0.0))
    return {
        "median_ms": {n: round(statistics.median(each), 3) for n, each in times.items() if each},
        "largest_gap": {name: float(f"{gap:.1e}") for name, gap in gaps.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="other samples in each round")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--dims", type=int, nargs="+", default=tuple(SHAPES), choices=SHAPES)
    parser.add_argument("--most-entropic", type=int, default=2048, help="rows of entropic plans")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    methods: dict[str, Pairing] = {"flowgen": flowgen, "scipy": scipy, "lapx": lapx, "pot": pot}
    if importlib.util.find_spec("torchcfm") is not None:
        methods["torchcfm"] = torchcfm()
    found: dict[str, Any] = {
        "flowgen": __version__,
        "torch": torch.__version__,
        "pot": ot.__version__,
        "machine": platform.processor() or platform.machine(),
        "rounds": arguments.rounds,
    }
    for d in arguments.dims:
        for n in arguments.sizes:
            # Seconds a pairing: fewer rounds tell as much.
            rounds = arguments.rounds if n <= 1024 else min(arguments.rounds, 2048 * 3 // n)
            several = rounds * max(1, min(1024 // n, 8))
            case = found[f"d = {d}, n = {n}"] = measure(methods, n, d, max(several, 1))
            if n <= arguments.most_entropic:
                case["entropic"] = entropic(n, d, rounds if n <= 256 else 1)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
