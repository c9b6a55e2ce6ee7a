"""Edits by noise: samples are noised some way and denoised again."""

from dataclasses import dataclass

from torch import Tensor

from flowgen.core import InputError
from flowgen.pipeline.editing.scene import Scene, noised


@dataclass(frozen=True)
class Noising:
    """SDEdit: to the state of time ``1 - strength`` by fresh noise, and on by the flow.

    Args:
        strength: In [0, 1]; 0 changes nothing, 1 leaves nothing.

    Raises:
        InputError: If it leaves its range.

    Source: Meng et al. 2021, arXiv 2108.01073.
    """

    strength: float = 0.5

    def __post_init__(self) -> None:
        """Check the number."""
        if not 0.0 <= self.strength <= 1.0:
            raise InputError(f"edit.strength must be in [0, 1], got {self.strength}")

    def __call__(self, scene: Scene, z: Tensor) -> Tensor:
        """Return the changed samples ``(n, *d)``."""
        if self.strength == 0.0:
            return z
        times = scene.times(1.0 - self.strength)
        return scene.carried(scene.guided, noised(z, scene.noise, times[0]), times, scene.wanted)
