"""An affine path at the times of a sampler, as plain numbers.

Steppers that know the path (``x_t = alpha x_1 + sigma x_0``) turn the velocity into the two means
it determines, with the Wronskian ``W = d_alpha sigma - alpha d_sigma``:

    ``D = E[x_1 | x_t] = (sigma v - d_sigma x) / W``,
    ``e = E[x_0 | x_t] = (d_alpha x - alpha v) / W``,

and, given a standard normal source independent of the data, into the score ``-e / sigma``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, VelocityField
from flowgen.integrators.stepper import Time
from flowgen.paths import AffinePath

_AT_REST = 1e-6  # a smaller Wronskian leaves no digits of the means in float32
_RATIO = 1e-3  # of data to noise; where a path is at rest, means are asked for at this ratio


@dataclass(frozen=True)
class Point:
    """Coefficients of the path at one time, ``d_`` per unit of time.

    Attributes:
        inside: A point near by to find the means at, for a path that is at rest here (``W = 0``),
            where the velocity says nothing.
    """

    t: float
    alpha: float
    sigma: float
    d_alpha: float
    d_sigma: float
    inside: "Point | None" = None

    @property
    def asked(self) -> float:
        """The time at which the field is evaluated for the means."""
        return self.t if self.inside is None else self.inside.t

    @property
    def wronskian(self) -> float:
        """``d_alpha sigma - alpha d_sigma``, above 0."""
        return self.d_alpha * self.sigma - self.alpha * self.d_sigma

    @property
    def level(self) -> float:
        """Ratio of noise to data, ``sigma / alpha``."""
        return self.sigma / self.alpha if self.alpha > 0 else math.inf

    def data(self, x: Float[Tensor, "b *d"], v: Float[Tensor, "b *d"]) -> Float[Tensor, "b *d"]:
        """Return ``E[x_1 | x_t = x]`` from the velocity ``v``, shape ``(b, *d)``."""
        at = self.inside or self
        return (at.sigma / at.wronskian) * v - (at.d_sigma / at.wronskian) * x

    def noise(self, x: Float[Tensor, "b *d"], v: Float[Tensor, "b *d"]) -> Float[Tensor, "b *d"]:
        """Return ``E[x_0 | x_t = x]`` from the velocity ``v``, shape ``(b, *d)``."""
        at = self.inside or self
        return (at.d_alpha / at.wronskian) * x - (at.alpha / at.wronskian) * v

    def score(self, x: Float[Tensor, "b *d"], v: Float[Tensor, "b *d"]) -> Float[Tensor, "b *d"]:
        """Return the score ``-E[x_0 | x_t = x] / sigma``, shape ``(b, *d)``; ``sigma`` is not 0."""
        return (-1 / self.sigma) * self.noise(x, v)


class Points:
    """The points of a path that a trajectory visits; those of its nodes are found in one go.

    Times are rounded to the precision of the state first: that is what the field sees, and near the
    data ``sigma`` depends on the last digits of ``t``.

    Args:
        path: The path.
        x: The state, for its precision and device.
        times: Nodes of the trajectory.
    """

    def __init__(
        self, path: AffinePath, x: Float[Tensor, "b *d"], times: Iterable[float] = ()
    ) -> None:
        self.path = path
        self._dtype = x.dtype
        self._device = x.device
        self._exact = torch.float32 if x.device.type == "mps" else torch.float64
        self._known: dict[float, Point] = {}
        self._find(list(times))

    def at(self, t: Time) -> Point:
        """Return the point at time ``t``."""
        time = float(t)
        if time not in self._known:
            self._find([time])
        return self._known[time]

    def time_of(self, level: float) -> float:
        """Return the time at which the ratio of noise to data is ``level``, inside the domain."""
        ratio = self._tensor([1.0]), self._tensor([level])
        return float(self.path.schedule.time_of(*ratio))

    def _find(self, times: list[float]) -> None:
        if not times:
            return
        for time, point in zip(times, self._evaluated(times), strict=True):
            at_rest = point.wronskian < _AT_REST
            self._known[time] = replace(point, inside=self._near(point)) if at_rest else point

    def _near(self, point: Point) -> Point:
        level = 1 / _RATIO if point.alpha < point.sigma else _RATIO
        return self._evaluated([self.time_of(level)])[0]

    def _evaluated(self, times: list[float]) -> list[Point]:
        rounded = torch.tensor(times, dtype=self._dtype).tolist()
        c = self.path.coefficients(self._tensor(rounded))
        columns = [v.tolist() for v in (c.alpha, c.sigma, c.d_alpha, c.d_sigma)]
        return [Point(*row) for row in zip(rounded, *columns, strict=True)]

    def _tensor(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self._exact, device=self._device)


def affine_path(field: VelocityField, asking: object) -> AffinePath:
    """Return the affine path that ``field`` says it belongs to.

    Raises:
        InputError: If it says none, naming who asked.
    """
    path = getattr(field, "path", None)
    if not isinstance(path, AffinePath):
        raise InputError(
            f"{asking!r} needs a field that carries its affine path (field.path), this one has "
            "none: use a method for any field, such as sampler=heun"
        )
    return path
