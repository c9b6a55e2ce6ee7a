"""An estimate of the error that is left in guessing the data, as a function of the ratio.

``mmse(s) = E|x_1 - E[x_1 | x_1 + x_0 / s]|^2 / d`` is what the kinetic energy of all paths depends
on (:mod:`flowgen.paths.kinetic`). It falls with ``s`` from the variance ``V`` per dimension, and
stays below the error ``V / (1 + V s^2)`` of the best linear guess, which a Gaussian attains.
``lambda(s) = 1 - mmse(s) / V``, what is known of the data at the ratio ``s``, is the data
separation function.

Source: Shaul et al. 2023, arXiv 2306.06626, section 3.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError, flatten
from flowgen.paths.hermite import interpolate, pchip_slopes
from flowgen.paths.kinetic import FLOOR, falling, kinetic_optimal
from flowgen.paths.schedule import Schedule
from flowgen.paths.tabulated import angles

_LEAST = -80.0  # logarithm of an error relative to the linear one that counts as none


class ErrorCurve:
    """A cleaned ``mmse`` through estimates at some ratios: call it with ratios.

    Estimates are made to fall with the ratio and clipped to the error of the best linear guess.
    Between them the logarithm of the quotient of both is a monotone cubic of the angle
    ``atan(sqrt(V) s)``; beyond the last it stays as it is there.

    Args:
        snr: Ratios ``alpha / sigma`` of the estimates, above 0, strictly rising, shape ``(n,)``.
        mmse: The estimates, not negative, shape ``(n,)``.
        stderr: Their standard errors, shape ``(n,)``.
        variance: ``V``, the mean square of a coordinate of the centred data, above 0.
        mean_square: Mean square of a coordinate of the mean of the data.

    Raises:
        InputError: If the numbers are not as described.
    """

    def __init__(
        self,
        snr: Float[Tensor, " n"],
        mmse: Float[Tensor, " n"],
        stderr: Float[Tensor, " n"],
        *,
        variance: float,
        mean_square: float = 0.0,
    ) -> None:
        if not (math.isfinite(variance) and variance > 0):
            raise InputError(f"variance must be finite and above 0, got {variance}: constant data?")
        if not (math.isfinite(mean_square) and mean_square >= 0):
            raise InputError(f"mean_square must be finite and at least 0, got {mean_square}")
        if not snr.shape == mmse.shape == stderr.shape or len(snr) < 1:
            raise InputError(
                "snr, mmse and stderr must be vectors of one length of at least 1, got "
                f"{tuple(snr.shape)}, {tuple(mmse.shape)} and {tuple(stderr.shape)}"
            )
        self.snr, self.mmse, self.stderr = (v.detach().cpu().double() for v in (snr, mmse, stderr))
        if not (self.snr.isfinite().all() and self.snr[0] > 0 and (self.snr.diff() > 0).all()):
            raise InputError("snr must be finite, above 0 and strictly rising")
        if not (self.mmse.isfinite().all() and (self.mmse >= 0).all()):
            raise InputError("mmse must be finite and at least 0")
        self.variance = variance
        self.mean_square = mean_square
        quotient = falling(self.mmse) / self.linear(self.snr)
        beginning = torch.zeros(1, dtype=torch.float64)  # at snr 0 the mean is the best guess
        self._angle = torch.cat([beginning, self._angle_of(self.snr)])
        self._log = torch.cat([beginning, quotient.log().clamp(_LEAST, 0.0)])
        self._slope = pchip_slopes(self._angle, self._log)

    @property
    def rho(self) -> float:
        """Mean square of a coordinate of the data, their mean included."""
        return self.variance + self.mean_square

    def linear(self, snr: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Return the error of the best linear guess, ``V / (1 + V snr^2)``."""
        return self.variance / (1 + self.variance * snr.double().square())

    def separation(self, snr: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Return ``lambda(snr)``, from 0 to 1."""
        return 1 - self(snr) / self.variance

    def __call__(self, snr: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        """Return the cleaned error at ratios ``(k,)`` of at least 0, in float64 on the CPU."""
        snr = snr.detach().cpu().double()
        angle = self._angle_of(snr).clamp(max=float(self._angle[-1]))
        log, _ = interpolate(angle, self._angle, self._log, self._slope)
        return log.exp() * self.linear(snr)

    def schedule(self, *, floor: float = FLOOR, num_nodes: int = 257) -> Schedule:
        """Return the schedule of least kinetic energy, as :func:`kinetic_optimal` does."""
        return kinetic_optimal(self, rho=self.rho, floor=floor, num_nodes=num_nodes)

    def _angle_of(self, snr: Tensor) -> Tensor:
        return torch.atan(math.sqrt(self.variance) * snr)


def ratios(variance: float, num_nodes: int) -> Float[Tensor, " n"]:
    """Return ratios at which an estimate pays: even in the angle, denser at both ends.

    Args:
        variance: Mean square of a coordinate of the centred data, above 0.
        num_nodes: How many, at least 1.

    Raises:
        InputError: If a number leaves its range.
    """
    if num_nodes < 1:
        raise InputError(f"num_nodes must be >= 1, got {num_nodes}")
    if not (math.isfinite(variance) and variance > 0):
        raise InputError(f"the data must be finite and not constant, got a variance of {variance}")
    return torch.tan(angles(num_nodes + 2)[1:-1]) / math.sqrt(variance)


def spread(x: Float[Tensor, "n *d"]) -> tuple[Float[Tensor, "n k"], float, float]:
    """Return the centred flat rows in float64, their mean square, and that of their mean.

    Raises:
        InputError: If there are less than 2 rows.
    """
    if len(x) < 2:
        raise InputError(f"an estimate needs at least 2 samples, got {len(x)}")
    flat = flatten(x).double()
    mean = flat.mean(dim=0)
    centred = flat - mean
    return centred, float(centred.square().mean()), float(mean.square().mean())


def mean_and_error(values: Float[Tensor, " n"]) -> tuple[float, float]:
    """Return the mean of independent values and its standard error (0 of a single one)."""
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else torch.zeros(())
    return float(values.mean()), float(error)
