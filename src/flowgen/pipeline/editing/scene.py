"""What an edit works with, and what an edit is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField, domain_of
from flowgen.integrators import Sampler, integrate
from flowgen.paths import AffinePath, Linear, Rescheduled


@dataclass(frozen=True)
class Scene:
    """A model at work on given samples.

    Args:
        plain: The model's velocity, on the linear path.
        guided: The same with the guidance that was asked for.
        sampler: Of an ODE.
        was: Conditions that describe the samples, None of an unconditional model.
        wanted: Conditions that describe the result.
        noise: Fresh source samples ``(n, *d)``, one for each sample.
        mask: Where samples are to be kept, bool ``(n, 1, h, w)``; None where nothing says.
    """

    plain: VelocityField
    guided: VelocityField
    sampler: Sampler
    was: Condition | None
    wanted: Condition | None
    noise: Tensor
    mask: Tensor | None = None

    def times(self, start: float = 0.0) -> list[float]:
        """Return the nodes of the sampler, shrunk to the time from ``start`` to the data."""
        low, high = domain_of(self.plain)
        nodes = self.sampler.grid_for(self.plain)
        inner = (
            low + max(start - low, 0.0) + (high - max(start, low)) * (nodes - low) / (high - low)
        )
        return inner.clamp(low, high).tolist()

    def carried(
        self, field: VelocityField, x: Tensor, times: Sequence[float], cond: Condition | None
    ) -> Tensor:
        """Return ``x (n, *d)`` carried along ``field`` from the first of ``times`` to the last."""
        return integrate(self.sampler.stepper, field, x, list(times), cond)


@runtime_checkable
class Edit(Protocol):
    """Changes samples by a model's flow.

    One that works on several samples together also has ``group``, how many belong together.
    """

    def __call__(self, scene: Scene, z: Tensor) -> Tensor:
        """Return the changed samples ``(n, *d)`` of ``z (n, *d)``, in model space."""
        ...


def on_linear_path(field: VelocityField) -> VelocityField:
    """Return the field of the same flow on the path ``t x_1 + (1 - t) x_0``.

    Raises:
        InputError: If the path has noise of its own.
    """
    path = getattr(field, "path", None)
    if not isinstance(path, AffinePath):
        raise InputError("editing needs an affine path; this model's has noise of its own")
    if isinstance(path.schedule, Linear):
        return field
    return Rescheduled(field, path.schedule, Linear())


def noised(z: Tensor, noise: Tensor, t: float) -> Tensor:
    """Return ``t z + (1 - t) noise``."""
    return torch.lerp(noise, z, t)
