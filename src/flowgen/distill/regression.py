"""A pull of single samples to where the teacher takes the same noise."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, Pair, VelocityField, expand
from flowgen.distill.frozen import Frozen
from flowgen.distill.students import flow_map, rows
from flowgen.integrators import Sampler
from flowgen.objectives import Distance, Squared
from flowgen.objectives.flow_matching import common_domain
from flowgen.paths import Path


class Regression:
    """The distance of a student's one-jump samples from the teacher's, for a share of the rows.

    Args:
        sampler: Solves the teacher's equation from each source point. None takes the data of the
            pairs, which then must be the teacher's samples of their source points.
        weight: Factor, > 0.
        share: Of the rows, in ``(0, 1]``; the others cost nothing.
        distance: Squared, mean over dimensions, if None.

    Raises:
        InputError: If a number leaves its range, or the sampler draws noise.

    Source: Yin et al. 2023 (DMD), arXiv 2311.18828, eq. 9 (there with LPIPS).
    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        *,
        weight: float = 0.25,
        share: float = 0.25,
        distance: Distance | None = None,
    ) -> None:
        if not 0 < weight < math.inf:
            raise InputError(f"regression.weight must be finite and > 0, got {weight}")
        if not 0 < share <= 1:
            raise InputError(f"regression.share must be in (0, 1], got {share}")
        if sampler is not None and sampler.stochastic:
            raise InputError("a regression needs a sampler that draws no noise, such as heun")
        self.sampler = sampler
        self.weight = float(weight)
        self.share = float(share)
        self.distance: Distance = Squared() if distance is None else distance

    def __call__(
        self, model: VelocityField, teacher: Frozen, path: Path, pair: Pair
    ) -> Float[Tensor, " n"]:
        """Return the distances of the first rows, shape ``(n,)``.

        Args:
            model: A flow map that leads to the data at once.
            teacher: Where samples should end.
            path: Of both.
            pair: Source points and conditions.
        """
        student = flow_map(model)
        count = max(1, round(self.share * len(pair)))
        cond = rows(pair.cond, slice(count))
        low, high = common_domain(path, model)
        start = path.initial_scale * pair.x_0[:count]
        with torch.no_grad():
            ends = pair.x_1[:count]
            if self.sampler is not None:
                ends = self.sampler.sample(teacher.field, start, cond)
        s, t = (
            torch.full((count,), at, dtype=start.dtype, device=start.device) for at in (low, high)
        )
        end = start + expand(t - s, start) * student.mean_velocity(start, s, t, cond)
        return self.distance(end - ends)
