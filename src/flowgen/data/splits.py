"""Which samples are held out: decided by a seed alone, equally in every class.

A class of ``n`` samples gives ``round(n holdout)`` of them to the held-out set, but at least one
and at most ``n - 1``; a class of one sample stays in the training set.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from flowgen.core import InputError, generator_for


def check_holdout(holdout: float, seed: int) -> None:
    """Raise if ``holdout`` is not a fraction between 0 and 1 or ``seed`` is negative.

    Raises:
        InputError: Naming the value and the rule.
    """
    if not 0.0 < holdout < 1.0:
        raise InputError(f"holdout must be a fraction between 0 and 1 (exclusive), got {holdout}")
    if seed < 0:
        raise InputError(f"seed must be >= 0, got {seed}")


def stratified_split(
    labels: Int[Tensor, " n"], holdout: float, *, seed: int = 0
) -> tuple[Int[Tensor, " a"], Int[Tensor, " b"]]:
    """Return the sorted indices of the training and of the held-out samples.

    Args:
        labels: Class of each sample, shape ``(n,)``; all equal for unlabelled data.
        holdout: Fraction held out of each class, in (0, 1).
        seed: The split depends on it and on ``labels`` only, non-negative.

    Raises:
        InputError: If an argument is out of range or nothing could be held out.
    """
    check_holdout(holdout, seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero().squeeze(1)
        count = min(max(round(len(rows) * holdout), 1), len(rows) - 1)
        order = torch.randperm(len(rows), generator=generator_for(seed, label))
        held[rows[order[:count]]] = True
    if not bool(held.any()):
        raise InputError(
            f"nothing can be held out of {len(labels)} samples: give at least 2 samples of a class"
        )
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)
