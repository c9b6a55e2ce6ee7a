"""How much a time counts: factors on the loss of each sample.

At a given state two predictions ``y = a x_1 + b x_0`` and ``y' = p x_1 + q x_0`` determine each
other, and errors are proportional: ``dy' = (q alpha - p sigma) / (alpha b - sigma a) dy``. So a
squared loss in one space is that of any other space, times the square of this factor. For velocity
from noise it is ``Delta / alpha``, from data ``Delta / sigma``, with ``Delta = d_alpha sigma -
alpha d_sigma``.

Divisors are kept at least ``floor`` in size, so every weight is finite on the closed domain of a
path; the named equalities hold wherever the divisor is larger.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError
from flowgen.paths import Noise, Prediction, Velocity


@runtime_checkable
class Weighting(Protocol):
    """A factor for each sample that depends on its time."""

    def __call__(self, t: Float[Tensor, " b"], coefficients: Coefficients) -> Float[Tensor, " b"]:
        """Return the weights ``(b,)`` at times ``t (b,)`` with the path's coefficients there."""
        ...


def _check_floor(floor: float) -> None:
    if not 0 < floor < 1:
        raise InputError(f"floor must be in (0, 1), got {floor}")


def _determinant(prediction: Prediction, c: Coefficients) -> Tensor:
    """Return ``alpha b - sigma a``: by how much the prediction adds to knowing the state."""
    a, b = prediction(c)
    return c.alpha * b - c.sigma * a


@dataclass(frozen=True)
class Constant:
    """The same weight at every time.

    Args:
        value: The weight, above 0.

    Raises:
        InputError: If ``value`` is not positive and finite.
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        """Check the weight."""
        if not 0 < self.value < math.inf:
            raise InputError(f"value must be positive and finite, got {self.value}")

    def __call__(self, t: Float[Tensor, " b"], coefficients: Coefficients) -> Float[Tensor, " b"]:
        """Return ``value`` for each time."""
        del coefficients
        return torch.full_like(t, self.value)


@dataclass(frozen=True)
class Equivalent:
    """Makes a squared loss in one prediction space equal to the plain one in another.

    ``((alpha q - sigma p) / (alpha b - sigma a))^2``, with ``(a, b)`` of ``loss_space`` and
    ``(p, q)`` of ``to``. To Velocity it is ``(Delta / alpha)^2`` from Noise and
    ``(Delta / sigma)^2`` from Data; from Data to EDM's prediction, ``1 / c_out^2``.

    Args:
        loss_space: What the objective compares.
        to: The space whose plain squared loss is wanted.
        floor: Smallest size of the divisor ``alpha b - sigma a``, in (0, 1).

    Raises:
        InputError: If ``floor`` is out of range.

    Source: Ma et al. 2024, arXiv 2401.08740 (velocity); Karras et al. 2022,
        arXiv 2206.00364, table 1 (EDM); the general form is derived here.
    """

    loss_space: Prediction
    to: Prediction = field(default_factory=Velocity)
    floor: float = 1e-4

    def __post_init__(self) -> None:
        """Check the floor."""
        _check_floor(self.floor)

    def __call__(self, t: Float[Tensor, " b"], coefficients: Coefficients) -> Float[Tensor, " b"]:
        """Return the weights, shape ``(b,)``, at most ``(alpha q - sigma p)^2 / floor^2``."""
        del t
        if self.loss_space == self.to:
            return torch.ones_like(coefficients.alpha)
        divisor = _determinant(self.loss_space, coefficients).abs().clamp(min=self.floor)
        return (_determinant(self.to, coefficients) / divisor).square()


@dataclass(frozen=True)
class Likelihood:
    """Makes a squared loss the bound on the negative log-likelihood, at uniform times.

    ``Delta / (alpha sigma)`` for the noise loss, that is ``d log(alpha / sigma) / dt``: with a
    Gaussian source independent of the data, the integral over time of it times the squared error
    of the noise, summed over values, bounds the likelihood in nats up to a constant. In another
    space it is multiplied by the squared ratio of errors, see :class:`Equivalent`.

    Args:
        loss_space: What the objective compares.
        floor: Smallest size of ``alpha``, ``sigma`` and the divisor, in (0, 1).

    Raises:
        InputError: If ``floor`` is out of range.

    Source: Kingma et al. 2021, arXiv 2107.00630; Ma et al. 2024, arXiv 2401.08740
        ("likelihood").
    """

    loss_space: Prediction = field(default_factory=Noise)
    floor: float = 1e-4

    def __post_init__(self) -> None:
        """Check the floor."""
        _check_floor(self.floor)

    def __call__(self, t: Float[Tensor, " b"], coefficients: Coefficients) -> Float[Tensor, " b"]:
        """Return the weights, shape ``(b,)``."""
        c = coefficients
        rate = c.wronskian / (c.alpha.clamp(min=self.floor) * c.sigma.clamp(min=self.floor))
        return rate * Equivalent(self.loss_space, Noise(), self.floor)(t, c)


@dataclass(frozen=True)
class SigmaSqrt:
    """``sigma^-2``: Stable Diffusion 3's "sigma_sqrt", for a velocity loss on the linear path.

    Args:
        floor: Smallest ``sigma``, in (0, 1); the weight is at most ``floor^-2``.

    Raises:
        InputError: If ``floor`` is out of range.

    Source: Esser et al. 2024, arXiv 2403.03206; named so in diffusers' training scripts.
    """

    floor: float = 1e-3

    def __post_init__(self) -> None:
        """Check the floor."""
        _check_floor(self.floor)

    def __call__(self, t: Float[Tensor, " b"], coefficients: Coefficients) -> Float[Tensor, " b"]:
        """Return ``sigma^-2``, shape ``(b,)``."""
        del t
        return coefficients.sigma.clamp(min=self.floor).square().reciprocal()


@dataclass(frozen=True)
class CosMapWeight:
    """``2 / (pi (1 - 2 sigma + 2 sigma^2))``: uniform times weighed like :class:`CosMap` times.

    On the linear path it is the density of :class:`CosMap`; between ``2 / pi`` and ``4 / pi``.

    Source: Esser et al. 2024, arXiv 2403.03206, eq. 21; so in diffusers' training scripts.
    """

    def __call__(self, t: Float[Tensor, " b"], coefficients: Coefficients) -> Float[Tensor, " b"]:
        """Return the weights, shape ``(b,)``."""
        del t
        sigma = coefficients.sigma
        return 2 / (math.pi * (1 - 2 * sigma * (1 - sigma)))
