"""The error left in guessing data of known form, and tables made of it."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowgen.paths import kinetic_optimal
from flowgen.pipeline import save_schedule

_NODES, _WEIGHTS = (
    torch.as_tensor(a) for a in np.polynomial.hermite_e.hermegauss(181)
)  # E f(z), z ~ N(0, 1)


def two_point_error(d: int, size: float = 1.0) -> Callable[[Tensor], Tensor]:
    """+-mu with ``|mu|^2 = d size^2``: the posterior mean is mu tanh(snr^2 |mu|^2 + snr |mu| z)."""

    def mmse(snr: Tensor) -> Tensor:
        s = snr.double()[:, None] * size
        tanh = torch.tanh(d * s.square() + math.sqrt(d) * s * _NODES)
        mean = (tanh.square() * _WEIGHTS).sum(dim=1) / _WEIGHTS.sum()
        return size**2 * (1 - mean)

    return mmse


def gaussian_error(*variances: float) -> Callable[[Tensor], Tensor]:
    """Centred or shifted Gaussian data with these variances of independent coordinates."""

    def mmse(snr: Tensor) -> Tensor:
        v = torch.tensor(variances, dtype=torch.float64)
        return (v / (1 + snr.double()[:, None].square() * v)).mean(dim=1)

    return mmse


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def write_table(file: Path) -> Path:
    """Write the path of two points in four dimensions as ``flowgen fit-path`` does."""
    save_schedule(kinetic_optimal(two_point_error(4), num_nodes=9), file, {})
    return file
