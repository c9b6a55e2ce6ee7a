"""Whether this CPU multiplies matrices faster in bfloat16 than in float32: found by trying.

Some CPUs offer bfloat16 and are slower in it, so the offer alone says nothing.
"""

import statistics
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import linear

MARGIN = 1.5
"""How many times faster bfloat16 must be: casts and all that is no product take a part of it."""

_SIDE = 512
_ROUNDS = 9


@cache
def cpu_prefers_bfloat16() -> bool:
    """Return whether products in bfloat16 are faster than in float32 by a clear margin.

    Measured once in a process, in some 30 milliseconds: medians of products that take turns.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    return seconds_ratio(*products()) >= MARGIN


def products() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Return the same matrix product in float32 and in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, _SIDE, _SIDE, generator=generator)
    half_a, half_b = a.bfloat16(), b.bfloat16()
    return lambda: linear(a, b), lambda: linear(half_a, half_b)


@torch.no_grad()
def seconds_ratio(one: Callable[[], object], other: Callable[[], object]) -> float:
    """Return the time of ``one`` over that of ``other``: medians of runs that take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS + 1):
        for work, seconds in zip((one, other), times, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    # The first run of each prepares the kernels.
    first, second = (statistics.median(seconds[1:]) for seconds in times)
    return first / second
