"""What all couplings that draw pairs from a plan have in common."""

import torch
from torch import Tensor

from flowgen.core import InputError, Pair


def check_free(pair: Pair, name: str) -> None:
    """Raise if the pair has a condition or weights.

    Raises:
        InputError: Saying why, and what to use instead.
    """
    if pair.cond:
        raise InputError(
            f"{name} got a condition: transport that ignores it makes the noise depend on it, "
            "which sampling does not know; use coupling=class_assignment for labels or "
            "coupling=condition_assignment for other conditions, or conditional=false"
        )
    if pair.weight is not None:
        raise InputError(
            f"{name} got pairs with weights, whose rows it draws anew; weigh the pairs after the "
            "coupling"
        )


def resampled(weights: Tensor, number: int, generator: torch.Generator | None = None) -> Tensor:
    """Return ``number`` row numbers in ascending order, row ``i`` about ``number weights_i`` times.

    Systematic: one number is drawn, and each row comes ``floor`` or ``ceil`` of its share times,
    which is its share in expectation.

    Args:
        weights: Not negative, ``(n,)``, with a sum > 0.
        number: Of rows to return.
        generator: Of the one draw.
    """
    where = weights.device if generator is None else generator.device
    start = torch.rand(1, generator=generator, device=where, dtype=torch.float64)
    steps = torch.arange(number, device=weights.device, dtype=torch.float64)
    sums = weights.double().cumsum(dim=0)
    heights = (steps + start.to(weights.device)) / number * sums[-1]
    return torch.searchsorted(sums, heights, right=True).clamp(max=len(weights) - 1)
