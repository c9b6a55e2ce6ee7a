"""Time of one exact pairing beside the peers', and how far each is from the optimum, in one run.

The source is normal; the data are eight Gaussians (d = 2) or smooth fields in [-1, 1] (d = 784: one
channel of 28 x 28, d = 3072: three of 32 x 32). A pairing starts from the samples and ends with the
index of the partners. torchcfm is optional (`pip install --no-deps torchcfm`); its time is that of
`sample_plan`, which draws pairs from the plan. All methods are timed in turn, several times over,
by the CPU time of the process on one thread; medians are printed as JSON.

    OMP_NUM_THREADS=1 python benchmarks/couplings.py --rounds 5 > benchmarks/results/couplings.json
"""

import argparse
import importlib.util
import json
import platform
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
from flowgen.couplings import optimal_permutation

Pairing = Callable[[Tensor, Tensor], Tensor | None]

SIZES = (64, 256, 1024, 2048)
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


def measure(methods: dict[str, Pairing], n: int, d: int, rounds: int) -> dict[str, Any]:
    """Return the median milliseconds of each method and its relative gap to the optimum."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    gaps: dict[str, float] = {}
    for seed in range(rounds):
        x_0, x_1 = clouds(n, d, seed)
        cost = torch.cdist(x_1.double(), x_0.double()).square()
        best = float(cost.numpy()[linear_sum_assignment(cost.numpy())].sum())
        for name, method in methods.items():
            start = time.process_time()
            index = method(x_0, x_1)
            times[name].append(1e3 * (time.process_time() - start))
            if index is not None:
                gap = float(cost[torch.arange(n), index.long()].sum()) / best - 1
                gaps[name] = max(gap, gaps.get(name, 0.0))
    return {
        "median_ms": {name: round(statistics.median(each), 3) for name, each in times.items()},
        "largest_gap": {name: float(f"{gap:.1e}") for name, gap in gaps.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="other samples in each round")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--dims", type=int, nargs="+", default=tuple(SHAPES), choices=SHAPES)
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
            found[f"d = {d}, n = {n}"] = measure(methods, n, d, arguments.rounds)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
