"""Edits that go back to the source first: plain inversion, controlled, and guided by transport.

All pull towards something along the way. With ``t`` from source (0) to data (1), the velocity that
leads from ``x`` straight to data ``z`` is ``(z - x) / (1 - t)``, the one that has come straight
from source ``n`` is ``(x - n) / t``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField, domain_of, expand
from flowgen.pipeline.editing.scene import Scene

_NEAR = 0.01  # nearest to an end that a straight way to it is measured


@dataclass(frozen=True)
class Inversion:
    """The ODE backwards under what the samples are, forwards under what is wanted.

    With one condition and an exact solver it gives the samples back. A sampler of higher order
    (``midpoint``, ``rk4``) does so in fewer evaluations.
    """

    def __call__(self, scene: Scene, z: Tensor) -> Tensor:
        """Return the changed samples ``(n, *d)``."""
        times = scene.times()
        x_0 = scene.carried(scene.plain, z, times[::-1], scene.was)
        return scene.carried(scene.guided, x_0, times, scene.wanted)


@dataclass(frozen=True)
class ControlledInversion:
    """RF-Inversion, with the transport-guided pull of OTIP on request.

    Backwards ``v + gamma ((x - n) / t - v)`` with fresh noise ``n``: the end looks like noise.
    Forwards ``v + eta ((z - x) / (1 - t) - v)`` in ``start <= t < stop``, and there for all times
    ``+ transport S(t) clip((z - x) / (1 - t))``, ``S`` falling from 1 to 0 over ``phase``.

    Args:
        gamma: Pull to noise on the way back, in [0, 1]; 0 is plain inversion, 1 is ``n`` itself.
        eta: Pull to the samples on the way forth, in [0, 1]; 1 all along gives them back.
        start: When ``eta`` begins to act.
        stop: When it ends.
        transport: Strength of the further pull, >= 0; 0 is RF-Inversion.
        phase: Share of the time that it acts, in (0, 1].
        clip: Largest norm of the pull at a pixel, > 0.
        at_end: Let it act at the end, near the data, instead of the beginning: the paper's form;
            its code has the other.

    Raises:
        InputError: If a number leaves its range.

    Source: Rout et al. 2024, arXiv 2410.10792, eq. 8 and 15; Lupascu and Stupariu 2025, arXiv
        2508.02363. No transport problem is solved: it is a pull to the samples.
    """

    gamma: float = 0.5
    eta: float = 0.9
    start: float = 0.0
    stop: float = 0.25
    transport: float = 0.0
    phase: float = 0.3
    clip: float = 10.0
    at_end: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("gamma", "eta"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"edit.{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0.0 <= self.start <= self.stop <= 1.0:
            raise InputError(
                f"edit.start and edit.stop must rise in [0, 1], got {self.start}, {self.stop}"
            )
        if not self.transport >= 0.0 or not 0.0 < self.phase <= 1.0 or not self.clip > 0.0:
            raise InputError(
                "edit.transport must be >= 0, edit.phase in (0, 1] and edit.clip > 0, got "
                f"{self.transport}, {self.phase} and {self.clip}"
            )

    def __call__(self, scene: Scene, z: Tensor) -> Tensor:
        """Return the changed samples ``(n, *d)``."""
        times = scene.times()
        back = _FromNoise(scene.plain, scene.noise, self.gamma)
        x_0 = scene.carried(back, z, times[::-1], scene.was)
        return scene.carried(_ToSample(scene.guided, z, self), x_0, times, scene.wanted)


class _FromNoise:
    """``v + gamma ((x - n) / t - v)``."""

    def __init__(self, field: VelocityField, noise: Tensor, gamma: float) -> None:
        self.field, self.noise, self.gamma = field, noise, gamma
        self.domain = domain_of(field)

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(n, *d)``."""
        v = self.field(x, t, cond)
        straight = (x - self.noise) / expand(t.clamp(min=_NEAR), x)
        return torch.lerp(v, straight.to(v), self.gamma)


class _ToSample:
    """``v + eta ((z - x) / (1 - t) - v) + a(t) clip((z - x) / (1 - t))``."""

    def __init__(self, field: VelocityField, z: Tensor, edit: ControlledInversion) -> None:
        self.field, self.z, self.edit = field, z, edit
        self.domain = domain_of(field)
        self.breaks = (edit.start, edit.stop)

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(n, *d)``."""
        edit = self.edit
        v = self.field(x, t, cond)
        straight = ((self.z - x) / expand((1.0 - t).clamp(min=_NEAR), x)).to(v)
        acts = expand(((t >= edit.start) & (t < edit.stop)).to(v.dtype), v)
        v = torch.lerp(v, straight, edit.eta * acts)
        if edit.transport == 0.0:
            return v
        since = (1.0 - t) if edit.at_end else t
        fall = 0.5 * (1.0 + torch.cos((since / edit.phase).clamp(max=1.0) * math.pi))
        norm = straight.norm(dim=1, keepdim=True)
        clipped = straight * (edit.clip / norm.clamp(min=edit.clip))
        return v + edit.transport * expand(fall, v).to(v) * clipped
