"""Edits that keep what is measured of the samples and make up the rest: inpainting, colours.

``y = A z`` is kept, ``A`` a part of the pixels or the mean of the channels. The velocity is
corrected by the gradient of ``log p(y | x_t)``, where the data given ``x_t`` are taken for a
Gaussian around the model's guess ``x_t + (1 - t) v`` of variance ``(1 - t)^2 / ((1 - t)^2 + t^2)``:
exact where the data are standard normal.

Source: Pokle et al. 2023, arXiv 2310.04432, algorithm 1 (OT-ODE).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField, domain_of, expand
from flowgen.pipeline.editing.scene import Scene, noised


@dataclass(frozen=True)
class _Measured(ABC):
    """What both edits share.

    Args:
        start: Time from which the flow goes, in (0, 1): before, the correction is unstable.
        weight: Of the correction; 1 is the derivation's.

    Raises:
        InputError: If a number leaves its range.
    """

    start: float = 0.1
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0.0 < self.start < 1.0:
            raise InputError(f"edit.start must be in (0, 1), got {self.start}")
        if not self.weight > 0.0:
            raise InputError(f"edit.weight must be > 0, got {self.weight}")

    @abstractmethod
    def kept(self, scene: Scene, x: Tensor) -> Tensor:
        """Return what is measured of ``x``, as a sample: ``A^T (A A^T)^-1 A x``."""

    def __call__(self, scene: Scene, z: Tensor) -> Tensor:
        """Return the changed samples ``(n, *d)``, which have the measurements of ``z``."""
        times = scene.times(self.start)
        known = self.kept(scene, z)
        field = _Corrected(scene.guided, scene, self, known)
        x = scene.carried(field, noised(known, scene.noise, times[0]), times, scene.wanted)
        # What is left of the solver's error in what is known is taken away.
        return x + known - self.kept(scene, x)


class Inpainting(_Measured):
    """Keeps the pixels of the scene's mask.

    Source: see the module.
    """

    def kept(self, scene: Scene, x: Tensor) -> Tensor:
        """Return the samples with all but the pixels of the mask zero."""
        if scene.mask is None:
            raise InputError("edit=inpainting needs a mask: give mask=<image>, white is kept")
        return x * scene.mask


class Colours(_Measured):
    """Keeps the mean of the channels at each pixel, and makes up the colours.

    Source: see the module.
    """

    def kept(self, scene: Scene, x: Tensor) -> Tensor:
        """Return grey samples."""
        del scene
        if x.shape[1] < 2:
            raise InputError("edit=colours needs samples with several channels")
        return x.mean(dim=1, keepdim=True).expand_as(x)


class _Corrected:
    """``v + (1 - t) / t grad log p(y | x_t)``."""

    def __init__(self, field: VelocityField, scene: Scene, edit: _Measured, known: Tensor) -> None:
        self.field, self.scene, self.edit, self.known = field, scene, edit, known
        self.domain = domain_of(field)

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(n, *d)``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            v = self.field(x, t, cond)
            guess = x + expand(1.0 - t, x) * v
            kept = self.edit.kept(self.scene, guess)
            missing = (self.known - kept).detach()
            [pulled] = torch.autograd.grad((kept * missing).sum(), x)
        left = (1.0 - t).square()
        # (1 - t) / t over the variance: finite at the data, where both vanish.
        scale = self.edit.weight * (left + t.square()) / (t * (1.0 - t).clamp(min=1e-3))
        return (v + expand(scale, x) * pulled).detach()
