"""What a network may be asked to predict: ``y = a x_1 + b x_0`` for known ``a(t)``, ``b(t)``.

With ``x_t = alpha x_1 + sigma x_0`` one prediction determines every other as long as
``alpha b - sigma a`` is not 0 (see :mod:`flowgen.paths.convert`). It vanishes for ``Data`` where no
noise is left and for ``Noise`` where no data is; for ``SalimansV``, ``EDMPrediction`` and
``DiffusersFlow`` nowhere.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from flowgen.core import Coefficients, InputError


@runtime_checkable
class Prediction(Protocol):
    """A linear target; equal objects mean the same target, so implement ``__eq__``."""

    def __call__(self, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """Return ``(a, b)`` with ``y = a x_1 + b x_0``, each of shape ``(b,)``."""
        ...


@dataclass(frozen=True)
class Velocity:
    """``y = v_t = d_alpha x_1 + d_sigma x_0``."""

    def __call__(self, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """Return ``(d_alpha, d_sigma)``."""
        return coefficients.d_alpha, coefficients.d_sigma


@dataclass(frozen=True)
class Data:
    """``y = x_1``; gives no velocity where ``sigma = 0``."""

    def __call__(self, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """Return ``(1, 0)``."""
        return torch.ones_like(coefficients.alpha), torch.zeros_like(coefficients.alpha)


@dataclass(frozen=True)
class Noise:
    """``y = x_0``; gives no velocity where ``alpha = 0``."""

    def __call__(self, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """Return ``(0, 1)``."""
        return torch.zeros_like(coefficients.alpha), torch.ones_like(coefficients.alpha)


@dataclass(frozen=True)
class SalimansV:
    """``y = alpha x_0 - sigma x_1``, the "v" of diffusion models; on :class:`Trig`, ``-2/pi v_t``.

    Source: Salimans and Ho 2022, arXiv 2202.00512, section 4.
    """

    def __call__(self, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """Return ``(-sigma, alpha)``."""
        return -coefficients.sigma, coefficients.alpha


@dataclass(frozen=True)
class EDMPrediction:
    """EDM's network target F on any affine path; of unit variance if data has ``data_std``.

    From the denoiser form ``x_1 = c_skip x_t + c_out F`` with ``V = alpha^2 data_std^2 + sigma^2``,
    ``c_skip = alpha data_std^2 / V``, ``c_out = sigma data_std / sqrt(V)``:
    ``F = sigma / (data_std sqrt(V)) x_1 - alpha data_std / sqrt(V) x_0``. The velocity form
    ``v_t = c_skip x_t + c_out F`` of the same recipe has other factors but the same F, so there is
    no choice to make. The matching input scale is ``V^(-1/2)``.

    Args:
        data_std: Standard deviation of one value of the data (mean 0), above 0.

    Raises:
        InputError: If ``data_std`` is not positive and finite.

    Source: Karras et al. 2022, arXiv 2206.00364, table 1 and eq. 7, for ``alpha = 1``.
    """

    data_std: float

    def __post_init__(self) -> None:
        """Check the scale."""
        if not 0 < self.data_std < math.inf:
            raise InputError(f"data_std must be positive and finite, got {self.data_std}")

    def __call__(self, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """Return ``(sigma / (data_std sqrt(V)), -alpha data_std / sqrt(V))``."""
        signal = coefficients.alpha * self.data_std
        root = torch.hypot(signal, coefficients.sigma)
        return coefficients.sigma / (self.data_std * root), -signal / root


@dataclass(frozen=True)
class DiffusersFlow:
    """``y = x_0 - x_1``, noise minus data: what diffusers' flow-matching models predict.

    On :class:`Linear` it is ``-v_t``; on another path it is still this difference.
    """

    def __call__(self, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """Return ``(-1, 1)``."""
        return -torch.ones_like(coefficients.alpha), torch.ones_like(coefficients.alpha)
