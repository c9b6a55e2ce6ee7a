"""TrigFlow's coordinates of a point on any affine path: the border to its formulas.

TrigFlow writes ``x = cos(angle) x_1 + sin(angle) data_std z`` and its network, which sees
``x / data_std``, predicts ``F`` with ``data_std F = dx / d angle``. The point ``x_t`` of an affine
path has ``alpha : sigma = cos : sin / data_std``, so with ``N^2 = (alpha data_std)^2 + sigma^2``

    ``cos = alpha data_std / N,   sin = sigma / N,   x = data_std x_t / N``.

Whole fields change their schedule by :class:`flowgen.paths.Rescheduled` and become TrigFlow's by
:class:`flowgen.paths.ToTrigFlow`; here it is single points, without division by 0 at either end.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError, expand


@dataclass(frozen=True)
class TrigFlowPrediction:
    """``F = cos(angle) x_0 - sin(angle) x_1 / data_std`` at the angle of an affine path's time.

    It is minus EDM's ``F``; on :class:`flowgen.paths.Trig` with ``data_std = 1`` it is Salimans'
    v. Every prediction determines it at all times where some noise or some data is left.

    Args:
        data_std: Standard deviation of one value of the data, above 0.

    Raises:
        InputError: If ``data_std`` is not positive and finite.

    Source: Lu and Song 2024, arXiv 2410.11081, section 3.
    """

    data_std: float

    def __post_init__(self) -> None:
        """Check the scale."""
        if not 0 < self.data_std < math.inf:
            raise InputError(f"data_std must be positive and finite, got {self.data_std}")

    def __call__(self, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
        """Return ``(-sin / data_std, cos)``, each ``(b,)``."""
        signal = coefficients.alpha * self.data_std
        root = torch.hypot(signal, coefficients.sigma)
        return -coefficients.sigma / (self.data_std * root), signal / root


@dataclass(frozen=True)
class TrigFlowPoint:
    """A point of an affine path in TrigFlow's coordinates.

    Args:
        x: ``cos x_1 + sin data_std z``, shape ``(b, *d)``.
        cos: Cosine of the angle, shape ``(b,)``.
        sin: Its sine, shape ``(b,)``.
        dt: ``dt / d angle`` times ``cos sin``, at most 0, shape ``(b,)``: finite where the time of
            the path has an infinite pace in angles.
    """

    x: Float[Tensor, "b *d"]
    cos: Float[Tensor, " b"]
    sin: Float[Tensor, " b"]
    dt: Float[Tensor, " b"]

    @property
    def angle(self) -> Float[Tensor, " b"]:
        """The angle, in ``[0, pi/2]``, 0 at the data."""
        return torch.atan2(self.sin, self.cos)


def to_trig_flow(
    x_t: Float[Tensor, "b *d"], coefficients: Coefficients, data_std: float
) -> TrigFlowPoint:
    """Return TrigFlow's coordinates of states of an affine path.

    Args:
        x_t: States ``(b, *d)``.
        coefficients: Of the path at their times.
        data_std: TrigFlow's scale of data and noise, above 0.
    """
    c = coefficients
    signal = c.alpha * data_std
    root = torch.hypot(signal, c.sigma)
    # d angle / dt = -data_std W / N^2, and cos sin = data_std alpha sigma / N^2.
    pace = -c.alpha * c.sigma / c.wronskian
    return TrigFlowPoint(expand(data_std / root, x_t) * x_t, signal / root, c.sigma / root, pace)
