"""Records that travel between layers (architecture, section 3).

Convention everywhere: time ``t`` runs from 0 (source, noise) to 1 (data) and is a float tensor of
shape ``(b,)``; ``x_t = alpha x_1 + sigma x_0``; ``b`` is the batch, ``*d`` the axes of one sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core.errors import InputError

Condition = Mapping[str, Tensor]
"""Named conditions of a batch; each tensor has the batch as its first axis, e.g. ``label (b,)``."""

Count = int | torch.SymInt
"""A number of rows, which is a symbol while a graph is traced."""


@dataclass(frozen=True)
class Pair:
    """Aligned rows of source and data: what a coupling returns and an objective receives.

    Args:
        x_0: Source samples, shape ``(b, *d)``.
        x_1: Data samples, shape ``(b, *d)``, the same dtype and device as ``x_0``.
        cond: Conditions of the rows of ``x_1``, or None.
        weight: Importance of each pair, shape ``(b,)``, mean 1, or None for all ones.
        stats: What the coupling reports of itself, for the log, e.g. ``{"coupling/cost": 1.3}``.

    Raises:
        InputError: If shapes or batch sizes do not agree.
    """

    x_0: Tensor
    x_1: Tensor
    cond: Condition | None = None
    weight: Tensor | None = None
    stats: Mapping[str, float | Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that all rows are aligned."""
        if self.x_0.ndim < 2:
            raise InputError(f"x_0 needs a batch and a sample axis, got {tuple(self.x_0.shape)}")
        if self.x_0.shape != self.x_1.shape:
            raise InputError(
                f"x_0 and x_1 must have one shape, got {tuple(self.x_0.shape)} "
                f"and {tuple(self.x_1.shape)}"
            )
        for name, value in (self.cond or {}).items():
            if value.shape[0] != len(self):
                raise InputError(f"cond '{name}' has {value.shape[0]} rows for {len(self)} pairs")
        if self.weight is not None and self.weight.shape != (len(self),):
            raise InputError(
                f"weight must have shape ({len(self)},), got {tuple(self.weight.shape)}"
            )

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self.x_0.shape[0]


@dataclass(frozen=True)
class Coefficients:
    """Values of a schedule at times ``t``: each of shape ``(b,)``, ``d_`` per unit of time."""

    alpha: Float[Tensor, " b"]
    sigma: Float[Tensor, " b"]
    d_alpha: Float[Tensor, " b"]
    d_sigma: Float[Tensor, " b"]

    @property
    def wronskian(self) -> Float[Tensor, " b"]:
        """``d_alpha sigma - alpha d_sigma``; positive where the signal-to-noise ratio grows."""
        return self.d_alpha * self.sigma - self.alpha * self.d_sigma


@dataclass(frozen=True)
class PathPoint:
    """A point of a path: state ``x_t (b, *d)``, pair velocity ``v_t (b, *d)``, time ``t (b,)``.

    With it come the coefficients of the path at ``t`` and, of a path with noise of its own, that
    noise: ``noise (b, *d)``, standard normal.
    """

    x_t: Float[Tensor, "b *d"]
    v_t: Float[Tensor, "b *d"]
    t: Float[Tensor, " b"]
    coefficients: Coefficients
    noise: Float[Tensor, "b *d"] | None = None


@dataclass(frozen=True)
class Loss:
    """Unreduced loss of a batch; the only place where pair weights act is :meth:`total`.

    Args:
        value: Loss of each pair, shape ``(b,)``, not yet weighted by ``pair.weight``.
        pair: The pairs the loss was computed on.
        t: Time of each row, shape ``(b,)``, for the log of loss per time bin.
        terms: Named parts for the log, each of shape ``(b,)`` or scalar.
    """

    value: Float[Tensor, " b"]
    pair: Pair
    t: Float[Tensor, " b"]
    terms: Mapping[str, Tensor] = field(default_factory=dict)

    def total(self) -> Float[Tensor, ""]:
        """Return the scalar to differentiate: the mean of ``value * pair.weight``."""
        if self.pair.weight is None:
            return self.value.mean()
        return (self.value * self.pair.weight.to(self.value)).mean()

    def detached(self) -> "Loss":
        """Return the same record cut from the graph, for logging."""
        terms = {name: value.detach() for name, value in self.terms.items()}
        return Loss(self.value.detach(), self.pair, self.t.detach(), terms)
