"""A sampler: which step, on which grid, how many; from source to data and back."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField, domain_of
from flowgen.integrators.grids import Grid, check_num_steps
from flowgen.integrators.integrate import integrate
from flowgen.integrators.stepper import Stepper


@dataclass(frozen=True)
class Sampler:
    """Carries source samples to data samples along a field, and back.

    Args:
        stepper: One step of a method.
        grid: Where the steps are.
        num_steps: How many steps, >= 1; an adaptive stepper refines each by itself and needs 1.

    Raises:
        InputError: If ``num_steps`` is below 1 or the grid cannot have that many.
    """

    stepper: Stepper
    grid: Grid
    num_steps: int

    def __post_init__(self) -> None:
        """Check the number of steps, with the grid's own rules."""
        check_num_steps(self.num_steps)
        self.grid(self.num_steps)

    def grid_for(self, field: VelocityField) -> Float64[Tensor, " nodes"]:
        """Return the nodes that ``field`` is integrated over, rising strictly.

        They are the nodes of the grid clamped to the domain of the field. Nodes that fall together
        at an end of the domain count once, so there can be fewer steps than ``num_steps``.

        Raises:
            InputError: If the domain is not a range inside ``[0, 1]``.
        """
        low, high = domain_of(field)
        if not 0 <= low < high <= 1:
            raise InputError(f"domain of the field must be a range in [0, 1], got ({low}, {high})")
        return torch.unique(self.grid(self.num_steps).clamp(low, high))

    def sample(
        self, field: VelocityField, x_0: Float[Tensor, "b *d"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return data samples ``(b, *d)``: ``x_0 (b, *d)`` carried along ``field``."""
        return integrate(self.stepper, field, x_0, self.grid_for(field), cond)

    def encode(
        self, field: VelocityField, x_1: Float[Tensor, "b *d"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return the source points ``(b, *d)`` that flow to ``x_1 (b, *d)``: the ODE backwards."""
        return integrate(self.stepper, field, x_1, self.grid_for(field).flip(0), cond)

    def with_num_steps(self, num_steps: int) -> "Sampler":
        """Return the same sampler with another number of steps."""
        return replace(self, num_steps=num_steps)
