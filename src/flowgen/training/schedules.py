"""Learning-rate schedules over optimiser steps, as factories for ``configure_optimizers``."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from flowgen.core import InputError


def warmup_cosine(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0.0, final: float = 0.0
) -> LambdaLR:
    """Return a linear warm-up followed by half a cosine.

    Args:
        optimizer: Whose learning rate is scaled.
        total_steps: Optimiser steps in all, at least 1.
        warmup: Share of the steps until the full rate, in ``[0, 1]``.
        final: Share of the rate left at the end, in ``[0, 1]``.

    Raises:
        InputError: If an argument is out of range.
    """
    if total_steps < 1:
        raise InputError(f"total_steps must be >= 1, got {total_steps}")
    for name, share in (("warmup", warmup), ("final", final)):
        if not 0.0 <= share <= 1.0:
            raise InputError(f"lr_schedule.{name} must be in [0, 1], got {share}")
    warmup_steps = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)


def warmup_constant(optimizer: Optimizer, *, warmup_steps: int = 0) -> LambdaLR:
    """Return a linear warm-up followed by the full rate.

    Raises:
        InputError: If ``warmup_steps`` is negative.
    """
    if warmup_steps < 0:
        raise InputError(f"lr_schedule.warmup_steps must be >= 0, got {warmup_steps}")
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup_steps)))
