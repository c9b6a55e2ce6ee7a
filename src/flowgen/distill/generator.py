"""Samples of a student in training: what it makes of noise in one jump or a few.

With one node a sample is ``f(sigma z, 0)``, ``f(x, s) = x + (1 - s) u(x, s, 1)`` the student's jump
to the data. With several the state at a node is what the student itself would meet there when it
samples: its sample from the node before, with fresh noise put in (backward simulation). Noised data
in its place would teach the student inputs that it never sees.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from flowgen.core import Condition, FlowMap, InputError, Pair, VelocityField, expand
from flowgen.distill.students import flow_map, rows
from flowgen.objectives.flow_matching import common_domain
from flowgen.paths import AffinePath, Path


class Generator:
    """Draws samples of a student, each with the gradient of its last jump.

    Args:
        path: From standard normal noise to the data; affine.
        nodes: Rising times from 0 on, below 1, where the student jumps from when it samples. Rows
            are shared out evenly among the nodes that their last jump starts from, in turns over
            the steps.

    Raises:
        InputError: If the path has noise of its own, or the nodes do not rise from 0 to below 1.

    Source: Yin et al. 2024 (DMD2), arXiv 2405.14867, section 4 (backward simulation).
    """

    def __init__(self, path: Path, nodes: Sequence[float] = (0.0,)) -> None:
        if not isinstance(path, AffinePath):
            raise InputError(
                f"{type(path).__name__} has noise of its own: the distribution of samples is "
                "matched on affine paths only"
            )
        found = tuple(float(node) for node in nodes)
        if not found or found[0] != 0 or found[-1] >= 1 or any(a >= b for a, b in pairwise(found)):
            raise InputError(f"nodes must rise from 0 to below 1, got {list(nodes)}")
        self.path = path
        self.nodes = found

    def __call__(
        self,
        model: VelocityField,
        like: Float[Tensor, "b *d"],
        cond: Condition | None,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b *d"]:
        """Return one sample for each row.

        Args:
            model: A flow map that leads to the data at once.
            like: Any states ``(b, *d)``, for shape, dtype and device.
            cond: Conditions of the rows.
            step: Optimiser steps taken before; turns the nodes round.
            generator: Draws the noise.

        Raises:
            InputError: If the model is no such map.
        """
        student = flow_map(model)
        if student.edges not in (None, (0.0, 1.0)):
            raise InputError(
                f"the student must lead to the data at once, and leads to {student.edges}"
            )
        low, high = common_domain(self.path, model)
        times = [min(max(node, low), high) for node in self.nodes]
        counts = self._counts(len(like), step)
        noise = normal(like, generator)
        x = self._noised(torch.zeros_like(noise), noise, times[0])
        with torch.no_grad():
            # The first rows go furthest; the others stay where their last jump starts.
            for j, count in enumerate(counts[1:], start=1):
                if count == 0:
                    break
                data = _jump(student, x[:count], times[j - 1], high, rows(cond, slice(count)))
                moved = self._noised(data, normal(data, generator), times[j])
                x = torch.cat([moved, x[count:]])
        s = _times(x, times[0])
        for time, count in zip(times, counts, strict=True):
            s[:count] = time
        end = _times(x, high)
        return x + expand(end - s, x).to(x.dtype) * student.mean_velocity(x, s, end, cond)

    def which(self, like: Float[Tensor, "b *d"], step: int = 0) -> Int64[Tensor, " b"]:
        """Return the number of the node that each row's last jump starts from, shape ``(b,)``."""
        found = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        for j, count in enumerate(self._counts(len(like), step)):
            found[:count] = j
        return found

    def _counts(self, size: int, step: int) -> list[int]:
        """Return how many rows take their last jump from node ``j`` or a later one."""
        number = len(self.nodes)
        last = [(row + step) % number for row in range(size)]
        return [sum(node >= j for node in last) for j in range(number)]

    def _noised(self, data: Tensor, noise: Tensor, t: float) -> Tensor:
        return self.path.sample(Pair(noise, data), _times(data, t)).x_t


def normal(like: Float[Tensor, "b *d"], generator: torch.Generator | None) -> Tensor:
    """Return standard normal numbers of the shape, dtype and device of ``like (b, *d)``."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)


def _times(x: Tensor, t: float) -> Tensor:
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)


def _jump(student: FlowMap, x: Tensor, s: float, t: float, cond: Condition | None) -> Tensor:
    return x + (t - s) * student.mean_velocity(x, _times(x, s), _times(x, t), cond)
