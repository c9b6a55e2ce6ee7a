"""Between two samples: their noise is found, and what lies between goes back to the data."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Condition, InputError, VelocityField, domain_of, expand
from flowgen.pipeline.editing.scene import Scene

_PARALLEL = 1e-4  # sine of the angle below which an arc is taken for a straight line


@dataclass(frozen=True)
class Interpolation:
    """Rows of samples that lead from one given sample to the next.

    The first and the second sample make a row, the third and the fourth the next one. Both ends of
    a row are carried back to their noise, each under what it is; the noise between is carried forth
    along ``(1 - s) v(x, t | a) + s v(x, t | b)``, where ``s`` goes from 0 to 1 along the row and
    ``a`` and ``b`` are what is wanted of the ends. So the ends come back as they were, and
    conditions change as gradually as the noise does.

    Args:
        steps: Samples of a row, >= 2; the first and the last are the ends.
        spherical: Along the arc between two noises instead of the straight line, on which Gaussian
            noise is shorter in the middle than any that the model has seen.

    Raises:
        InputError: If ``steps < 2``.

    Source: Song et al. 2021, arXiv 2010.02502, section 5.3 and appendix D.5; arcs of Shoemake 1985.
    """

    steps: int = 8
    spherical: bool = True

    group: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Check the number."""
        if self.steps < 2:
            raise InputError(f"edit.steps must be >= 2, got {self.steps}")

    def __call__(self, scene: Scene, z: Tensor) -> Tensor:
        """Return the rows one after the other, ``(n / 2 * steps, *d)`` of ``z (n, *d)``."""
        times = scene.times()
        noise = scene.carried(scene.plain, z, times[::-1], scene.was)
        pairs, steps = len(z) // 2, self.steps
        share = torch.linspace(0.0, 1.0, steps, dtype=z.dtype, device=z.device).repeat(pairs)
        first, second = (noise[end::2].repeat_interleave(steps, 0) for end in (0, 1))
        between = arc if self.spherical else line
        a, b = (_ends(scene.wanted, end, steps) for end in (0, 1))
        field = _Blend(scene.guided, a, b, share)
        return scene.carried(field, between(first, second, share), times, None)

    def ends(self, found: Tensor) -> Tensor:
        """Return the samples of the rows that stand for the given ones, ``(n, *d)``, in order."""
        rows = found.unflatten(0, (-1, self.steps))
        return rows[:, [0, -1]].flatten(0, 1)

    def beside(self, x: Tensor, found: Tensor) -> Tensor:
        """Return each row between the given samples, ``(n / 2 * (steps + 2), *d)``."""
        rows = found.unflatten(0, (-1, self.steps))
        return torch.cat([x[0::2, None], rows, x[1::2, None]], dim=1).flatten(0, 1)


def line(
    x: Float[Tensor, "b *d"], y: Float[Tensor, "b *d"], share: Float[Tensor, " b"]
) -> Float[Tensor, "b *d"]:
    """Return ``(1 - s) x + s y``."""
    return torch.lerp(x, y, expand(share, x))


def arc(
    x: Float[Tensor, "b *d"], y: Float[Tensor, "b *d"], share: Float[Tensor, " b"]
) -> Float[Tensor, "b *d"]:
    """Return ``sin((1 - s) w) / sin(w) x + sin(s w) / sin(w) y``, ``w`` the angle of ``x, y``.

    Of vectors of one length it keeps that length and turns evenly; of parallel ones it is a line.

    Args:
        x: Where ``s = 0``, ``(b, *d)``.
        y: Where ``s = 1``, ``(b, *d)``.
        share: ``s`` of each row, in [0, 1].
    """
    a, b = x.flatten(1), y.flatten(1)
    lengths = (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-30)
    angle = ((a * b).sum(dim=1) / lengths).clamp(-1.0, 1.0).arccos()
    sine = angle.sin()
    straight = sine < _PARALLEL
    below = torch.where(straight, torch.ones_like(sine), sine)
    left = torch.where(straight, 1.0 - share, ((1.0 - share) * angle).sin() / below)
    right = torch.where(straight, share, (share * angle).sin() / below)
    return expand(left, x) * x + expand(right, y) * y


class _Blend:
    """``(1 - s) v(x, t | a) + s v(x, t | b)``, by one evaluation where ``a`` and ``b`` are one."""

    def __init__(
        self, field: VelocityField, a: Condition | None, b: Condition | None, share: Tensor
    ) -> None:
        self.field, self.a, self.b, self.share = field, a, b, share
        self.domain = domain_of(field)
        self.breaks = getattr(field, "breaks", ())
        self._one = a is None or b is None or all(torch.equal(a[name], b[name]) for name in a)

    def __call__(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the velocity ``(b, *d)``."""
        del cond
        v = self.field(x, t, self.a)
        if self._one:
            return v
        return torch.lerp(v, self.field(x, t, self.b), expand(self.share, v).to(v))


def _ends(cond: Condition | None, end: int, steps: int) -> Condition | None:
    if cond is None:
        return None
    return {name: value[end::2].repeat_interleave(steps, 0) for name, value in cond.items()}
