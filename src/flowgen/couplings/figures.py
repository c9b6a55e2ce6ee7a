"""What a coupling says of itself, the same for all that pair rows: cost, gain, optimality, time."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from flowgen.core import Pair


def cost_of(pair: Pair) -> Float[Tensor, ""]:
    """Return the mean squared distance of the pairs, per dimension, in float32 at least."""
    wide = torch.promote_types(pair.x_0.dtype, torch.float32)
    # One call: independent pairs are made in the training step, where each call is felt.
    return mse_loss(pair.x_0.detach().to(wide), pair.x_1.detach().to(wide))


def with_figures(
    before: Pair,
    after: Pair,
    *,
    ms: float,
    bound: Tensor | float | None = None,
    extra: Mapping[str, float | Tensor] | None = None,
) -> Pair:
    """Return ``after`` with the figures of its coupling.

    ``coupling/cost``: mean squared distance per dimension. ``coupling/saved``: its share of the
    cost before that is gone. ``coupling/optimality``, where a bound is known: the share of what
    could be gone, 1 at the bound. ``coupling/ms``: wall time of the pairing in milliseconds.

    Args:
        before: The pairs that the coupling was given.
        after: The pairs it returns.
        ms: Milliseconds it took.
        bound: The least possible ``coupling/cost`` or a lower bound of it, e.g. a dual value.
        extra: More figures, ``coupling/<name>``.
    """
    given, cost = cost_of(before), cost_of(after)
    # Without spread all costs are equal: nothing can be saved, and all pairs are optimal.
    tiny = torch.finfo(cost.dtype).tiny
    figures: dict[str, float | Tensor] = {
        "coupling/cost": cost,
        "coupling/saved": 1 - cost / given.clamp(min=tiny),
        "coupling/ms": ms,
    }
    if bound is not None:
        figures["coupling/optimality"] = 1 - (cost - bound) / (given - bound).clamp(min=tiny)
    return replace(after, stats={**before.stats, **figures, **(extra or {})})
