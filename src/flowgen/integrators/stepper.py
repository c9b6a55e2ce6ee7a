"""What every step of an integrator shares: its signature, its times and its precision.

A stepper carries a state ``x`` along ``dx/dt = v(x, t)`` from time ``s`` to time ``t``. ``t > s``
runs from source to data, ``t < s`` runs backwards; the same formulas hold for both signs of the
step ``h = t - s``. The state is accumulated in float32 at least, whatever precision the field
answers in: rounding the sum of many small steps to half precision loses the steps.

A stepper is a value that many trajectories share. One that remembers (former velocities, random
numbers) is begun for each leg of a trajectory, which gives a fresh stepper for that leg alone. Legs
end where the field changes its form, so history is never used across such a time.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField
from flowgen.integrators.noise import Noise

Time = float | Float[Tensor, ""]
"""One end of a step: a number or a 0-dim tensor, in ``[0, 1]``."""


@runtime_checkable
class Stepper(Protocol):
    """Carries a state over one step of an ODE or an SDE.

    One that draws random numbers says ``stochastic = True``; one that works with the coefficients
    of an affine path says ``needs_affine_path = True``, and finds it at the field.

    Attributes:
        order: Global order of accuracy: the error is ``O(h^order)`` on smooth fields; of moments
            where the stepper is stochastic.
    """

    order: int

    def step(
        self, field: VelocityField, x: Tensor, s: Time, t: Time, cond: Condition | None = None
    ) -> Tensor:
        """Return the state ``(b, *d)`` at time ``t``, given ``x (b, *d)`` at time ``s``."""
        ...


@dataclass(frozen=True)
class Leg:
    """A stretch of one trajectory in which the field keeps its form.

    Args:
        nodes: Times of its ends and of all steps between, strictly monotone.
        num_steps: Steps of the whole trajectory.
        final: Whether the trajectory ends with it.
        noise: Random numbers for the rows of the batch; None where none were given.
    """

    nodes: tuple[float, ...]
    num_steps: int
    final: bool = True
    noise: Noise | None = None


@runtime_checkable
class Begins(Protocol):
    """A stepper that remembers, and so is begun anew for each leg."""

    def begin(self, field: VelocityField, x: Tensor, leg: Leg) -> Stepper:
        """Return a fresh stepper for one leg that starts from ``x (b, *d)``."""
        ...


def begin(stepper: Stepper, field: VelocityField, x: Tensor, leg: Leg) -> Stepper:
    """Return the stepper to take along ``leg``: a fresh one if it remembers, else itself."""
    return stepper.begin(field, x, leg) if isinstance(stepper, Begins) else stepper


def is_stochastic(stepper: Stepper) -> bool:
    """Return whether a stepper draws random numbers."""
    return bool(getattr(stepper, "stochastic", False))


def breaks_of(field: VelocityField) -> tuple[float, ...]:
    """Return the times at which ``field`` says that it changes its form, e.g. edges of guidance."""
    return tuple(getattr(field, "breaks", ()))


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
    # One number for all rows: a network sees so and embeds it once.
    times = (t.to(x) if isinstance(t, Tensor) else x.new_full((1,), t)).expand(x.shape[0])
    velocity = field(x, times, cond)
    if velocity.shape != x.shape:
        raise InputError(
            f"field must return the shape of x {tuple(x.shape)}, got {tuple(velocity.shape)}"
        )
    return velocity.to(x.dtype)
