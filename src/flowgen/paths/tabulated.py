r"""A schedule from a table: the kinetic-optimal path of a data set.

In polar form ``alpha = r sin(theta) / R``, ``sigma = r cos(theta)``, with ``R^2`` the mean square
of a data coordinate, the kinetic energy is ``int r'^2 + gamma(theta) r^2 theta'^2 dt``. With
``psi(theta) = int_0^theta sqrt(gamma)`` this metric is flat, so the best path from
``(1, 0)`` to ``(R, Psi)``, ``Psi = psi(pi/2)``, is a straight segment in the plane ``(r, psi)``:

    r^2 = (1-t)^2 + R^2 t^2 + 2 R t (1-t) cos Psi,   psi = atan2(R t sin Psi, 1-t + R t cos Psi),

and ``theta`` follows from the table of ``psi``. Its energy is ``1 + R^2 - 2 R cos Psi``.

Source: Shaul et al. 2023, arXiv 2306.06626, theorem 3.1, integrated in closed form.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError
from flowgen.paths.hermite import interpolate, invert, pchip_slopes
from flowgen.paths.schedule import Schedule


class Tabulated(Schedule):
    """The straight path of the metric whose angle ``psi(theta)`` is tabulated.

    The table lives in buffers, so it travels with the weights and moves with the model. Without a
    table, ``psi = theta``: that is the Linear path.

    Args:
        theta: Angles from 0 to ``pi / 2``, strictly rising, shape ``(n,)``, n >= 3; None takes
            those of :func:`angles`.
        psi: ``psi(theta)``, from 0, strictly rising, at most ``pi / 2``, shape ``(n,)``; or None.
        scale: ``R``, root mean square of a centred data coordinate, above 0.
        num_nodes: Nodes of the table if none is given, so that a stored one can be loaded.

    Raises:
        InputError: If the table is not as described.
    """

    theta: Tensor
    psi: Tensor
    slope: Tensor
    scale: Tensor

    def __init__(
        self,
        theta: Tensor | Sequence[float] | None = None,
        psi: Tensor | Sequence[float] | None = None,
        *,
        scale: float = 1.0,
        num_nodes: int = 257,
    ) -> None:
        super().__init__()
        if psi is None:
            if theta is not None:
                raise InputError("give psi with theta, or neither")
            if num_nodes < 3:
                raise InputError(f"num_nodes must be >= 3, got {num_nodes}")
            theta = psi = angles(num_nodes)
        if not (math.isfinite(scale) and scale > 0):
            raise InputError(f"scale must be finite and above 0, got {scale}")
        psi = torch.as_tensor(psi, dtype=torch.float64).clone()
        if theta is None:
            theta = angles(max(len(psi), 3)) if psi.ndim == 1 else psi
        theta = torch.as_tensor(theta, dtype=torch.float64).clone()
        _check_table(theta, psi)
        self.register_buffer("theta", theta)
        self.register_buffer("psi", psi)
        self.register_buffer("slope", pchip_slopes(psi, theta))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    @property
    def energy(self) -> float:
        """Kinetic energy per dimension of the marginal flow: ``1 + R^2 - 2 R cos Psi``."""
        scale, end = float(self.scale), float(self.psi[-1])
        return 1 + scale**2 - 2 * scale * math.cos(end)

    def to_config(self) -> dict[str, Any]:
        """Return the plain ``_target_`` dict that builds this schedule again, number by number."""
        config: dict[str, Any] = {
            "_target_": "flowgen.paths.Tabulated",
            "psi": self.psi.tolist(),
            "scale": float(self.scale),
        }
        if not torch.equal(self.theta.cpu(), angles(len(self.theta))):
            config["theta"] = self.theta.tolist()
        return config

    def _table(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return angles, their ``psi``, the slopes and the scale where the times are.

        They are there already in training. Grids ask on the CPU, wherever the model is.
        """
        tables = (self.theta, self.psi, self.slope, self.scale)
        theta, psi, slope, scale = (table.to(device) for table in tables)
        return theta, psi, slope, scale

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients and their time derivatives at ``t (b,)`` in ``[0, 1]``."""
        theta_table, psi_table, slopes, scale = self._table(t.device)
        s = t.to(psi_table.dtype)
        end = psi_table[-1]
        along, across = 1 - s + s * scale * end.cos(), s * scale * end.sin()
        r = (along.square() + across.square()).sqrt()
        # The state moves straight from (1, 0) to scale (cos Psi, sin Psi), at constant velocity.
        d_along, d_across = scale * end.cos() - 1, scale * end.sin()
        d_r = (along * d_along + across * d_across) / r
        d_psi = (along * d_across - across * d_along) / r.square()
        theta, slope = interpolate(torch.atan2(across, along), psi_table, theta_table, slopes)
        theta = torch.where(s <= 0, torch.zeros_like(theta), theta)
        d_theta = slope * d_psi
        sin, cos = theta.sin(), torch.where(s >= 1, torch.zeros_like(theta), theta.cos())
        return Coefficients(
            (r * sin / scale).to(t.dtype),
            (r * cos).to(t.dtype),
            ((d_r * sin + r * cos * d_theta) / scale).to(t.dtype),
            (d_r * cos - r * sin * d_theta).to(t.dtype),
        )

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time at which the path has the ratio ``alpha : sigma``."""
        theta_table, psi_table, slopes, scale = self._table(alpha.device)
        end = psi_table[-1]
        angle = torch.atan2(scale * alpha.to(psi_table.dtype), sigma.to(psi_table.dtype))
        psi = invert(angle.clamp(0, math.pi / 2), psi_table, theta_table, slopes)
        t = psi.sin() / (psi.sin() + scale * (end - psi).sin())
        return self._into_domain(t).to(alpha.dtype)


def angles(num_nodes: int) -> Float[Tensor, " n"]:
    """Return ``num_nodes`` angles from 0 to ``pi / 2``, denser at both ends, in float64."""
    u = torch.linspace(0, 1, num_nodes, dtype=torch.float64)
    theta = math.pi / 2 * u.square() * (3 - 2 * u)
    theta[-1] = math.pi / 2
    return theta


def _check_table(theta: Tensor, psi: Tensor) -> None:
    if theta.ndim != 1 or theta.shape != psi.shape or len(theta) < 3:
        raise InputError(
            "theta and psi must be vectors of one length of at least 3, got "
            f"{tuple(theta.shape)} and {tuple(psi.shape)}"
        )
    for name, column in (("theta", theta), ("psi", psi)):
        if not (column.isfinite().all() and column[0] == 0 and (column.diff() > 0).all()):
            raise InputError(f"{name} must rise strictly from 0")
    if not math.isclose(float(theta[-1]), math.pi / 2, rel_tol=1e-9):
        raise InputError(f"theta must end at pi / 2, got {float(theta[-1])}")
    if float(psi[-1]) > math.pi / 2 * (1 + 1e-9):
        raise InputError(f"psi must end at pi / 2 at most, got {float(psi[-1])}")
