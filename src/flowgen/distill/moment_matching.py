"""Inductive moment matching: laws of jumps agree, not jumps.

Jumps to ``t`` from the noisier ``x_s`` and from the cleaner ``x_r`` have one law. Their maximum
mean discrepancy over small groups that share their times is

    ``MMD^2 = mean_jk k(y_j, y_k) + k(z_j, z_k) - 2 k(y_j, z_k)``,

``y = X(x_s, s, t)`` with gradient, ``z = X(x_r, r, t)`` without. With one particle it is a
consistency loss; with several the map may also change which noise leads where.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flowgen.core import Condition, FlowMap, InputError, Loss, Pair, VelocityField, expand, flatten
from flowgen.distill.students import (
    alike,
    draw_triples,
    flow_map,
    progress_of,
    rows_of,
    same_masks,
)
from flowgen.distill.triples import Triples, TripleSampler
from flowgen.paths import Path


class MomentMatching(nn.Module):
    """The discrepancy of groups, by the kernel ``exp(-rms(a - b) / width)``.

    Where there are conditions the rows are grouped by them, and rows of different conditions do not
    see each other: where each has its own, as captions may be, it is a consistency loss. Published
    are 4 rows, a width in proportion to ``t - s`` and neighbouring times
    (:class:`flowgen.distill.NoiseGap`); small batches need more rows and a wider step.

    Args:
        path: From the source to the data.
        triples: From when, over which middle, to when; one for each group.
        particles: Rows of a group, at least 1; of a smaller batch all. The rows of a batch that
            are left over learn nothing.
        width: Of the kernel, in units of the data, above 0.

    Attributes:
        total_steps: Optimiser steps of the run; None until it is told, and schedules are over.

    Raises:
        InputError: If a number leaves its range.

    Source: Zhou et al. 2025, arXiv 2503.07565, algorithm 1.
    """

    def __init__(
        self, path: Path, triples: TripleSampler, *, particles: int = 32, width: float = 1.0
    ) -> None:
        super().__init__()
        if particles < 1:
            raise InputError(f"particles must be >= 1, got {particles}")
        if not 0 < width < math.inf:
            raise InputError(f"width must be positive and finite, got {width}")
        self.path = path
        self.triples = triples
        self.particles = int(particles)
        self.width = float(width)
        self.total_steps: int | None = None

    def forward(
        self,
        model: VelocityField,
        pair: Pair,
        *,
        step: int = 0,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """Return the discrepancy of each row's group.

        Args:
            model: A flow map.
            pair: Coupled source and data in the model's space, each ``(b, *d)``.
            step: Optimiser steps taken before.
            generator: Draws triples, and the noise of a path that has some.

        Returns:
            The loss ``(b,)`` with the starts as its times; 0 for rows that are left over, for which
            the others count more. The term ``residual``, likewise, is the mean square of ``y - z``.

        Raises:
            InputError: If the model is no flow map, or triples and model do not fit.
        """
        student = flow_map(model)
        size, device = len(pair), pair.x_1.device
        number = alike(pair.cond, size, device)
        order = number.argsort(stable=True)
        rows = min(self.particles, size)
        groups = size // rows
        used = order[: groups * rows]
        few = rows_of(pair, used)
        cond = few.cond

        progress = progress_of(step, self.total_steps)
        one = Pair(few.x_0[::rows], few.x_1[::rows])
        drawn = draw_triples(self.triples, progress, self.path, model, one, generator)
        s, r, t = (x.repeat_interleave(rows) for x in (drawn.s, drawn.r, drawn.t))
        y, z = self._jumps(student, few, Triples(s, r, t, len(s)), cond, generator)

        grouped = number[used].view(groups, rows)
        same = grouped[:, :, None] == grouped[:, None, :]
        y_of, z_of = (x.unflatten(0, (groups, rows)) for x in (y, z))
        of_group = discrepancy(y_of, z_of, self.width, same)

        share = size / len(used)
        value, times = (torch.zeros(size, dtype=x.dtype, device=x.device) for x in (of_group, s))
        value = value.index_copy(0, used, share * of_group.repeat_interleave(rows))
        times = times.index_copy(0, used, s)
        apart = share * flatten(y.detach() - z).square().mean(dim=1)
        residual = apart.new_zeros(size).index_copy(0, used, apart)
        return Loss(value, pair, times, {"residual": residual})

    def _jumps(
        self,
        student: FlowMap,
        pair: Pair,
        found: Triples,
        cond: Condition | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the ends ``y`` with gradient and ``z`` without."""
        s, r, t = found.s, found.r, found.t
        noisier = self.path.sample(pair, s, generator=generator).x_t
        with torch.no_grad(), same_masks(noisier):
            cleaner = self.path.sample(pair, r, generator=generator).x_t
            u = student.mean_velocity(cleaner, r, t, cond)
            z = cleaner + expand(t - r, u) * u
        u = student.mean_velocity(noisier, s, t, cond)
        return noisier + expand(t - s, u) * u, z


def discrepancy(
    y: Float[Tensor, "g m *d"],
    z: Float[Tensor, "g m *d"],
    width: float,
    same: Bool[Tensor, "g m m"],
) -> Float[Tensor, " g"]:
    """Return the squared maximum mean discrepancy of each group, over all pairs of its rows.

    Args:
        y: Samples of one law, ``m`` in each of ``g`` groups.
        z: Samples of the other.
        width: Of the Laplace kernel of root-mean-square differences, above 0.
        same: Which rows see each other.
    """
    wide = torch.promote_types(y.dtype, torch.float32)
    a, b = y.to(wide).flatten(2), z.to(wide).flatten(2)
    scale = width * math.sqrt(a.shape[2])

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        # Not by products of matrices, which lose the digits of close pairs.
        mode = "donot_use_mm_for_euclid_dist"
        return torch.exp(-torch.cdist(one, other, compute_mode=mode) / scale)

    total = kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)
    return (total * same).mean(dim=(1, 2))
