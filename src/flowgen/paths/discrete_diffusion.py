"""The schedule of a diffusion model that was trained on discrete steps.

Such a model knows the share of data ``prod (1 - beta_i)`` after each of its ``n`` steps of noise.
Here step ``k`` (counted from 0 at the data, as diffusers does) is the time ``t = 1 - (k + 1) / n``:
the last step is ``t = 0``, and ``t = 1`` is the data before the first. Between the steps the
logarithm of that share is a monotone cubic, so that any solver can stop anywhere.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError
from flowgen.paths.hermite import interpolate, invert, pchip_slopes
from flowgen.paths.schedule import SINGULAR_GAP, Schedule

BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2")
"""Names that diffusers gives to sequences of ``beta``."""


class DiscreteDiffusion(Schedule):
    """``alpha^2 = prod (1 - beta_i)``, ``sigma^2 = 1 - alpha^2``; some data is left at ``t = 0``.

    Args:
        num_steps: Steps of noise the model was trained on, at least 2.
        betas: How ``beta`` grows from the data: ``linear``, ``scaled_linear`` (its root is linear)
            or ``squaredcos_cap_v2`` (``alpha`` is a cosine; the two numbers are not used).
        beta_start: Of the first step, in ``(0, 1)``.
        beta_end: Of the last, at least ``beta_start`` and below 1.

    Raises:
        InputError: If an argument leaves its range.

    Source: Ho et al. 2020, arXiv 2006.11239, eq. 4; Nichol and Dhariwal 2021, arXiv 2102.09672,
    eq. 17; the names are those of diffusers.
    """

    domain = (0.0, 1.0 - SINGULAR_GAP)

    nodes: Tensor
    total: Tensor
    slope: Tensor

    def __init__(
        self,
        num_steps: int = 1000,
        betas: str = "scaled_linear",
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
    ) -> None:
        super().__init__()
        if num_steps < 2:
            raise InputError(f"num_steps must be >= 2, got {num_steps}")
        if not 0 < beta_start <= beta_end < 1:
            raise InputError(
                "beta_start and beta_end must satisfy 0 < beta_start <= beta_end < 1, got "
                f"{beta_start} and {beta_end}"
            )
        self.num_steps, self.betas = int(num_steps), betas
        kept = torch.log1p(-_betas(self.num_steps, betas, beta_start, beta_end))
        nodes = torch.linspace(0, 1, self.num_steps + 1, dtype=torch.float64)
        total = torch.cat([torch.zeros(1, dtype=torch.float64), -kept.cumsum(0)])
        # Made from the config again, so that checkpoints do not carry thousands of numbers.
        self.register_buffer("nodes", nodes, persistent=False)
        self.register_buffer("total", total, persistent=False)
        self.register_buffer("slope", pchip_slopes(nodes, total), persistent=False)

    def forward(self, t: Float[Tensor, " b"]) -> Coefficients:
        """Return the coefficients; see :meth:`Schedule.forward`."""
        # float64 throughout: a module moved to half precision keeps no table worth reading.
        table = (each.double() for each in (self.nodes, self.total, self.slope))
        total, rate = interpolate(1 - t.double(), *table)
        alpha, left = torch.exp(-total / 2), torch.exp(-total)
        sigma = (-torch.expm1(-total)).sqrt()
        found = (alpha, sigma, rate * alpha / 2, -rate * left / (2 * sigma))
        return Coefficients(*(each.to(t.dtype) for each in found))

    def time_of(
        self, alpha: Float[Tensor, " b"], sigma: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the time of a ratio; see :meth:`Schedule.time_of`."""
        wanted = torch.log1p((sigma.double() / alpha.double()).square())
        wanted = wanted.clamp(max=float(self.total[-1]))
        table = (each.double() for each in (self.nodes, self.total, self.slope))
        return self._into_domain((1 - invert(wanted, *table)).to(alpha.dtype))


def _betas(num_steps: int, name: str, start: float, end: float) -> Tensor:
    if name == "linear":
        return torch.linspace(start, end, num_steps, dtype=torch.float64)
    if name == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, num_steps, dtype=torch.float64) ** 2
    if name == "squaredcos_cap_v2":
        steps = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
        share = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
        # The last ratio would be 0, which leaves nothing to predict noise from.
        return (1 - share[1:] / share[:-1]).clamp(max=0.999)
    raise InputError(f"betas must be one of {', '.join(BETAS)}, got '{name}'")
