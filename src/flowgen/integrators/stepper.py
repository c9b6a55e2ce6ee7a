"""What every step of an integrator shares: its signature, its times and its precision.

A stepper carries a state ``x`` along ``dx/dt = v(x, t)`` from time ``s`` to time ``t``. ``t > s``
runs from source to data, ``t < s`` runs backwards; the same formulas hold for both signs of the
step ``h = t - s``. The state is accumulated in float32 at least, whatever precision the field
answers in: rounding the sum of many small steps to half precision loses the steps.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField

Time = float | Float[Tensor, ""]
"""One end of a step: a number or a 0-dim tensor, in ``[0, 1]``."""


@runtime_checkable
class Stepper(Protocol):
    """Carries a state over one step of an ODE.

    Attributes:
        order: Global order of accuracy: the error is ``O(h^order)`` on smooth fields.
    """

    order: int

    def step(
        self, field: VelocityField, x: Tensor, s: Time, t: Time, cond: Condition | None = None
    ) -> Tensor:
        """Return the state ``(b, *d)`` at time ``t``, given ``x (b, *d)`` at time ``s``."""
        ...


def accumulating(x: Float[Tensor, "b *d"]) -> Float[Tensor, "b *d"]:
    """Return ``x`` in the precision that steps are summed in: float32, or float64 if it has it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def evaluate(
    field: VelocityField, x: Float[Tensor, "b *d"], t: Time, cond: Condition | None
) -> Float[Tensor, "b *d"]:
    """Return ``field`` at states ``x`` and one common time, in the dtype of ``x``.

    Args:
        field: The velocity; it is given times of shape ``(b,)`` in the dtype of ``x``.
        x: States ``(b, *d)``, float32 or float64.
        t: The time of all rows.
        cond: Conditions of the rows.

    Raises:
        InputError: If the field answers with another shape than that of ``x``.
    """
    times = t.to(x).expand(len(x)) if isinstance(t, Tensor) else x.new_full((len(x),), t)
    velocity = field(x, times, cond)
    if velocity.shape != x.shape:
        raise InputError(
            f"field must return the shape of x {tuple(x.shape)}, got {tuple(velocity.shape)}"
        )
    return velocity.to(x.dtype)
