"""A sampler: which step, on which grid, how many; from source to data and back."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField, domain_of
from flowgen.integrators.grids import Explicit, Grid, check_num_steps
from flowgen.integrators.integrate import integrate
from flowgen.integrators.noise import Noise
from flowgen.integrators.start import Start
from flowgen.integrators.stepper import Stepper, breaks_of, is_stochastic

_SAME = 1e-6  # a node this close to a break of the field is that break


@dataclass(frozen=True)
class Sampler:
    """Carries source samples to data samples along a field, and back.

    Args:
        stepper: One step of a method.
        grid: Where the steps are.
        num_steps: How many steps, >= 1; an adaptive stepper refines each by itself and needs 1.
        start: Takes the source samples to a later time, from where the steps go; None begins at the
            source.

    Raises:
        InputError: If ``num_steps`` is below 1 or the grid cannot have that many.
    """

    stepper: Stepper
    grid: Grid
    num_steps: int
    start: Start | None = None

    def __post_init__(self) -> None:
        """Check the number of steps, with the grid's own rules."""
        check_num_steps(self.num_steps)
        self.grid(self.num_steps)

    @property
    def stochastic(self) -> bool:
        """Whether it draws random numbers on the way, and so needs a field whose score is known."""
        return is_stochastic(self.stepper)

    def grid_for(self, field: VelocityField) -> Float64[Tensor, " nodes"]:
        """Return the nodes that ``field`` is integrated over, rising strictly.

        They are the nodes of the grid clamped to the domain of the field; with a start, the grid is
        shrunk to the time that is left. Nodes that fall together
        at an end of the domain count once, so there can be fewer steps than ``num_steps``. Times at
        which the field changes its form (the ends of an interval of guidance) are nodes as well, so
        there can be more; explicit nodes stay as they are.

        Raises:
            InputError: If the domain is not a range inside ``[0, 1]``.
        """
        low, high = domain_of(field)
        if not 0 <= low < high <= 1:
            raise InputError(f"domain of the field must be a range in [0, 1], got ({low}, {high})")
        nodes = self.grid(self.num_steps)
        if self.start is not None:
            nodes = self.start.time + (1 - self.start.time) * nodes
        nodes = torch.unique(nodes.clamp(low, high))
        breaks = [at for at in breaks_of(field) if low < at < high]
        if not breaks or isinstance(self.grid, Explicit):
            return nodes
        edges = torch.tensor(breaks, dtype=nodes.dtype)
        apart = (nodes[:, None] - edges).abs().amin(dim=1) > _SAME
        apart[0] = apart[-1] = True
        return torch.unique(torch.cat([nodes[apart], edges]))

    def sample(
        self,
        field: VelocityField,
        x_0: Float[Tensor, "b *d"],
        cond: Condition | None = None,
        *,
        noise: Noise | None = None,
    ) -> Float[Tensor, "b *d"]:
        """Return data samples ``(b, *d)``: ``x_0 (b, *d)`` carried along ``field``.

        Args:
            field: The velocity.
            x_0: Source samples ``(b, *d)``, times ``initial_scale`` of the field.
            cond: Conditions of the rows.
            noise: Random numbers of the rows, for a stochastic sampler.

        Raises:
            InputError: If the sampler needs what is not there: random numbers, an affine path.
        """
        grid = self.grid_for(field)
        if self.start is not None:
            x_0 = self.start(x_0 / getattr(field, "initial_scale", 1.0), cond)
        return integrate(self.stepper, field, x_0, grid, cond, noise=noise)

    def encode(
        self, field: VelocityField, x_1: Float[Tensor, "b *d"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return the source points ``(b, *d)`` that flow to ``x_1 (b, *d)``: the ODE backwards.

        Raises:
            InputError: If the sampler is stochastic or has a start: there is no way back.
        """
        if self.start is not None:
            raise InputError(
                "a sampler that does not begin at the source has no way back to it: encode with "
                "one that does, such as sampler=heun"
            )
        if self.stochastic:
            raise InputError(
                f"{self.stepper!r} draws noise on the way, which cannot be undone: encode with an "
                "ODE sampler such as sampler=heun"
            )
        return integrate(self.stepper, field, x_1, self.grid_for(field).flip(0), cond)

    def with_num_steps(self, num_steps: int) -> "Sampler":
        """Return the same sampler with another number of steps."""
        return replace(self, num_steps=num_steps)
