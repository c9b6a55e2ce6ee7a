"""How far apart the conditions of two rows are, for couplings that may change a row's condition."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from flowgen.core import Condition, InputError, flatten

_SAME = 1e-6
"""Rounding of a cosine in float32: what is nearer than this is the same condition."""


@runtime_checkable
class ConditionDistance(Protocol):
    """Distance of the conditions of all pairs of rows."""

    def __call__(self, cond: Condition) -> Float[Tensor, "n n"]:
        """Return the distances ``(n, n)``, >= 0 and zero where two rows have one condition."""
        ...


class CosineDistance:
    """``1 - cos(c_i, c_j)``, in [0, 2], summed over the conditions of a row.

    A vector of integers counts as labels: two of them are 0 apart if equal, else 1, which is the
    cosine distance of their one-hot vectors.

    Args:
        names: Conditions that count; None for all but masks, which belong to another one.

    Raises:
        InputError: If ``names`` is empty.

    Source: Cheng and Schwing 2025, arXiv 2503.10636, section 3.2.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        if names is not None and not names:
            raise InputError("names must hold at least one condition, or be None for all")
        self.names = None if names is None else tuple(names)

    def __call__(self, cond: Condition) -> Float[Tensor, "n n"]:
        """Return the distances ``(n, n)`` of the rows of ``cond``, each value ``(n, *e)``.

        Raises:
            InputError: If a condition is missing, or is neither labels nor finite numbers.
        """
        apart = (name for name in cond if cond[name].dtype != torch.bool)
        names = sorted(apart) if self.names is None else self.names
        if missing := [name for name in names if name not in cond]:
            raise InputError(f"there is no condition '{missing[0]}', only {sorted(cond)}")
        if not names:
            raise InputError("there is no condition to tell the distance of")
        return torch.stack([_distance(name, cond[name]) for name in names]).sum(dim=0)


def _distance(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        if value.ndim != 1 or value.is_complex():
            raise InputError(
                f"cond['{name}'] must be labels (n,) or numbers (n, *e), got {value.dtype} of "
                f"shape {tuple(value.shape)}"
            )
        return (value[:, None] != value[None]).to(torch.float32)
    if value.ndim < 2:
        raise InputError(f"cond['{name}'] has no vector in a row, got shape {tuple(value.shape)}")
    rows = flatten(value)
    rows = normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=1)
    with torch.autocast(rows.device.type, enabled=False):
        distance = 1 - rows @ rows.mT
    if not bool(distance.isfinite().all()):
        raise InputError(f"cond['{name}'] must be finite")
    distance = torch.where(distance < _SAME, torch.zeros_like(distance), distance)
    return distance.fill_diagonal_(0.0)
