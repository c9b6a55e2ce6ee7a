"""Kinetic energy of affine paths, and the path that has least of it.

The energy per dimension of the marginal flow, ``E = int E|v(x_t, t)|^2 dt / d``, is that of the
pairs less what the conditional velocities scatter around it: with ``mmse(s)`` the mean squared
error per dimension of the best guess of ``x_1`` from ``x_1 + x_0 / s``, and
``beta = d_alpha - alpha d_sigma / sigma``,

    E = int rho d_alpha^2 + d_sigma^2 - beta^2 mmse(alpha / sigma) dt,      rho = E|x_1|^2 / d.

So a data set enters through one function of one variable, and the best path through an integral of
it (:class:`flowgen.paths.Tabulated`). The source is N(0, I), independent. The mean of the data
needs no subtraction: it is in ``rho``, the motion of the mean being part of the energy, and not in
``mmse``, as a known shift changes no error.

Source: Shaul et al. 2023, arXiv 2306.06626, sections 3 and 4 (for centred data).
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError
from flowgen.paths.schedule import Schedule
from flowgen.paths.tabulated import Tabulated, angles
from flowgen.paths.trig import Trig

MMSE = Callable[[Tensor], Tensor]
"""``snr (n,) -> mean squared error per dimension (n,)``, float64; falls from the variance at 0."""

FLOOR = 0.1
"""Default floor of ``gamma``. Without one ``d_alpha`` is infinite at 0 and the regression target
with it; a tenth costs little energy and keeps the targets bounded."""

_GAUSSIAN = 1e-3
_NEARLY_INFINITE = 1e7


def kinetic_optimal(
    mmse: MMSE, *, rho: float = 1.0, floor: float = FLOOR, num_nodes: int = 257
) -> Schedule:
    """Return the schedule of least kinetic energy for data with this ``mmse``.

    The estimate is cleaned first: it must fall with the ratio, and stay below that of a Gaussian of
    the same ``rho``. An isotropic centred Gaussian has no preferred path; it, and data so close to
    it that the floor costs more than the table gains, get :class:`Trig`.

    Args:
        mmse: Of the data.
        rho: Mean square of a data coordinate, above 0.
        floor: Smallest ``gamma``, in ``[0, 1)``; 0 is the optimum itself, whose ``d_alpha`` is
            infinite at ``t = 0``.
        num_nodes: Nodes of the table, at least 3.

    Raises:
        InputError: If an argument leaves its range.
    """
    if not rho > 0:
        raise InputError(f"rho must be above 0, got {rho}")
    if not 0.0 <= floor < 1.0:
        raise InputError(f"floor must be in [0, 1), got {floor}")
    if num_nodes < 3:
        raise InputError(f"num_nodes must be >= 3, got {num_nodes}")
    theta = angles(num_nodes)
    snr = torch.tan(theta).clamp(max=_NEARLY_INFINITE)
    # In units of the data's own spread the Gaussian of the same variance has 1 / (1 + snr^2).
    error = mmse(snr / rho**0.5).double() / rho
    error = torch.minimum(falling(error), 1 / (1 + snr.square()))
    gamma = (1 - (1 + snr.square()) * error).clamp(0.0, 1.0)
    gamma[-1] = gamma[-2]
    if float(_integral(gamma.sqrt(), theta)[-1]) < _GAUSSIAN:
        return Trig()
    psi = _integral(gamma.clamp(min=max(floor, 1e-12)).sqrt(), theta)
    table = Tabulated(psi=psi, scale=rho**0.5)
    with_table, without = (kinetic_energy(path, mmse, rho=rho) for path in (table, Trig()))
    return table if with_table < without else Trig()


def conditional_energy(schedule: Schedule, *, rho: float = 1.0, num_times: int = 20_001) -> float:
    """Return ``int rho d_alpha^2 + d_sigma^2 dt``: the mean square of the regression target.

    Args:
        schedule: The path.
        rho: Mean square of a data coordinate.
        num_times: Points of the midpoint rule over the schedule's domain.
    """
    c, width = _at_midpoints(schedule, num_times)
    return float((rho * c.d_alpha.square() + c.d_sigma.square()).sum() * width)


def kinetic_energy(
    schedule: Schedule, mmse: MMSE, *, rho: float = 1.0, num_times: int = 20_001
) -> float:
    """Return the kinetic energy per dimension of the marginal flow of a schedule.

    Args:
        schedule: The path.
        mmse: Of the data.
        rho: Mean square of a data coordinate.
        num_times: Points of the midpoint rule over the schedule's domain.
    """
    c, width = _at_midpoints(schedule, num_times)
    scatter = (c.wronskian / c.sigma).square() * mmse(c.alpha / c.sigma).double()
    return float((rho * c.d_alpha.square() + c.d_sigma.square() - scatter).sum() * width)


def _at_midpoints(schedule: Schedule, num_times: int) -> tuple[Coefficients, float]:
    low, high = schedule.domain
    width = (high - low) / num_times
    t = low + width * (torch.arange(num_times, dtype=torch.float64) + 0.5)
    return schedule(t), width


def _integral(y: Float[Tensor, " n"], x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the running integral by trapezoids, from 0."""
    return torch.cat([y.new_zeros(1), torch.cumulative_trapezoid(y, x)])


def falling(y: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the closest sequence that never rises (isotonic regression), on the CPU."""
    from scipy.optimize import isotonic_regression

    return torch.as_tensor(np.array(isotonic_regression(y.numpy(), increasing=False).x))
