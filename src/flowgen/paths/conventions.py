"""Other people's conventions, each converted once, here.

| whose | time | state | network |
|---|---|---|---|
| flowgen | t: 0 noise, 1 data | alpha x_1 + sigma x_0 | v(x, t) |
| diffusers flow matching | tau = 1 - t, often times 1000 | the Linear path | noise - data = -v |
| EDM | noise level s = sigma / alpha | x_1 + s x_0 = x_t / alpha | denoiser E[x_1 given x] |
| TrigFlow | angle tau = pi/2 (1 - t) | the Trig path, in units of the data's std | F = dx/dtau |
| "w" guidance | | | (1 + w) conditional - w unconditional |

``From*`` turns a foreign model into a velocity field, ``To*`` the other way round.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flowgen.core import Condition, InputError, VelocityField, domain_of, expand
from flowgen.paths.affine import AffinePath
from flowgen.paths.convert import convert
from flowgen.paths.linear import Linear
from flowgen.paths.predictions import Data, Velocity
from flowgen.paths.trig import Trig

ForeignModel = Callable[[Tensor, Tensor, Condition | None], Tensor]
"""A model ``(x (b, *d), time (b,), cond) -> (b, *d)`` in somebody else's convention."""


def _check_time_scale(time_scale: float) -> float:
    if not 0 < time_scale < math.inf:
        raise InputError(f"time_scale must be positive and finite, got {time_scale}")
    return float(time_scale)


class FromDiffusersFlow(nn.Module):
    """A diffusers flow-matching model as a velocity field: ``v(x, t) = -f(x, scale (1 - t))``.

    Args:
        model: ``f(x, timestep, cond)``, trained to give noise minus data at ``tau = 1 - t``.
        time_scale: Timestep at pure noise, 1000 for diffusers' pipelines.
    """

    def __init__(self, model: ForeignModel, time_scale: float = 1000.0) -> None:
        super().__init__()
        self.model = model
        self.time_scale = _check_time_scale(time_scale)

    @property
    def path(self) -> AffinePath:
        """The Linear path."""
        return AffinePath(Linear())

    def forward(
        self, x: Float[Tensor, "b *d"], t: Float[Tensor, " b"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return the velocity ``(b, *d)`` on the Linear path."""
        return -self.model(x, self.time_scale * (1 - t), cond)


class ToDiffusersFlow(nn.Module):
    """A velocity field of the Linear path as a diffusers flow-matching model.

    Args:
        field: Velocity field of the Linear path.
        time_scale: Timestep at pure noise, 1000 for diffusers' pipelines.
    """

    def __init__(self, field: VelocityField, time_scale: float = 1000.0) -> None:
        super().__init__()
        self.field = field
        self.time_scale = _check_time_scale(time_scale)

    def forward(
        self, x: Float[Tensor, "b *d"], timestep: Float[Tensor, " b"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return noise minus data ``(b, *d)`` at timesteps in ``[0, time_scale]``."""
        return -self.field(x, 1 - timestep / self.time_scale, cond)


class FromEDM(nn.Module):
    """An EDM denoiser as the velocity field of an affine path, Linear unless another is given.

    Outside ``domain`` it answers as at the nearest end: a denoiser knows no level 0 and no infinite
    one.

    Args:
        denoiser: ``D(x_s, s, cond) = E[x_1 | x_1 + s x_0 = x_s]``, preconditioning included.
        path: The path to be a field of.
        sigma_min: Smallest level to ask for, above 0.
        sigma_max: Largest level to ask for.

    Attributes:
        domain: Times at which the path's level ``sigma / alpha`` is in ``[sigma_min, sigma_max]``.

    Raises:
        InputError: If not ``0 < sigma_min < sigma_max``.

    Source: Karras et al. 2022, arXiv 2206.00364, eqs. 3 and 4.
    """

    def __init__(
        self,
        denoiser: ForeignModel,
        path: AffinePath | None = None,
        *,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
    ) -> None:
        super().__init__()
        if not 0 < sigma_min < sigma_max < math.inf:
            raise InputError(
                f"sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, "
                f"got {sigma_min} and {sigma_max}"
            )
        self.denoiser = denoiser
        self.path = AffinePath(Linear()) if path is None else path
        levels = torch.tensor([sigma_max, sigma_min], dtype=torch.float64)
        low, high = self.path.schedule.time_of(torch.ones_like(levels), levels).tolist()
        self.domain: tuple[float, float] = (low, high)

    def forward(
        self, x: Float[Tensor, "b *d"], t: Float[Tensor, " b"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return the velocity ``(b, *d)`` on ``path``."""
        c = self.path.coefficients(t.clamp(*self.domain))
        data = self.denoiser(x / expand(c.alpha, x), c.sigma / c.alpha, cond)
        return convert(data, x, c, Data(), Velocity())


class ToEDM(nn.Module):
    """A velocity field of an affine path as an EDM denoiser ``D(x_s, s)``.

    Args:
        field: Velocity field of ``path``.
        path: The path of ``field``, Linear unless another is given.
    """

    def __init__(self, field: VelocityField, path: AffinePath | None = None) -> None:
        super().__init__()
        self.field = field
        self.path = AffinePath(Linear()) if path is None else path

    def forward(
        self, x: Float[Tensor, "b *d"], level: Float[Tensor, " b"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return ``E[x_1 | x_1 + s x_0 = x]``, shape ``(b, *d)``.

        Args:
            x: States ``x_1 + s x_0``, shape ``(b, *d)``.
            level: Noise levels ``s``, shape ``(b,)``; a level the field has no time for is
                answered at the nearest one.
            cond: Passed on.
        """
        t = self.path.schedule.time_of(torch.ones_like(level), level)
        t = t.clamp(*domain_of(self.field))
        c = self.path.coefficients(t)
        x_t = expand(c.alpha, x) * x
        return convert(self.field(x_t, t, cond), x_t, c, Velocity(), Data())


class FromTrigFlow(nn.Module):
    """A TrigFlow network as a velocity field of the Trig path: ``v(x, t) = -pi/2 F(x, angle)``.

    TrigFlow's states are ``cos(angle) x_1 + sin(angle) data_std z`` and its network sees them
    divided by ``data_std``. This field lives in that unit: encode data by ``x_1 / data_std``,
    start from N(0, I), multiply samples by ``data_std``.

    Args:
        model: ``F(x / data_std, angle, cond)`` with the angle in ``[0, pi/2]``, 0 at the data.

    Source: Lu and Song 2024, arXiv 2410.11081, section 3.
    """

    def __init__(self, model: ForeignModel) -> None:
        super().__init__()
        self.model = model

    @property
    def path(self) -> AffinePath:
        """The Trig path."""
        return AffinePath(Trig())

    def forward(
        self, x: Float[Tensor, "b *d"], t: Float[Tensor, " b"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return the velocity ``(b, *d)`` on the Trig path, in units of the data's std."""
        return -math.pi / 2 * self.model(x, math.pi / 2 * (1 - t), cond)


class ToTrigFlow(nn.Module):
    """A velocity field of the Trig path as a TrigFlow network ``F(x, angle)``.

    Args:
        field: Velocity field of the Trig path, of data divided by its standard deviation.
    """

    def __init__(self, field: VelocityField) -> None:
        super().__init__()
        self.field = field

    def forward(
        self, x: Float[Tensor, "b *d"], angle: Float[Tensor, " b"], cond: Condition | None = None
    ) -> Float[Tensor, "b *d"]:
        """Return ``dx / d angle``, shape ``(b, *d)``, at angles in ``[0, pi/2]``."""
        return -2 / math.pi * self.field(x, 1 - angle * (2 / math.pi), cond)


def guidance_scale_from_w(w: float) -> float:
    """Return the scale of ``u + scale (c - u)`` that equals ``(1 + w) c - w u``.

    Source: Ho and Salimans 2022, arXiv 2207.12598, eq. 6, for ``w``.
    """
    return 1.0 + w


def w_from_guidance_scale(scale: float) -> float:
    """Return ``w`` of ``(1 + w) c - w u`` that equals ``u + scale (c - u)``; 0 at scale 1."""
    return scale - 1.0
