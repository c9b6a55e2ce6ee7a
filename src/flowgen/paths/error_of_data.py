"""What is left to guess of the data, estimated from points alone.

For ``n`` points the posterior of ``x_1`` given ``x = s x_1 + x_0`` is a softmax over them, and its
variance, averaged over noisy points, is the error of *these points*. Averaged over data sets it
lies below the error of their distribution (the error is a concave function of it), and far
below where the points are few for their dimension: every noisy point then knows its own. Leaving
that point out gives the error of some guess, so on average a bound from above. Where the two are
apart the points do not tell the error, and a trained model does (``error_of_model``).

Any n points of unit mean square have ``int (1 - lambda) ds <= 3 n / sqrt(d)``.

Sources: Shaul et al. 2023, arXiv 2306.06626 (estimate and bound); Wu and Verdu 2012, IEEE Trans.
Inf. Theory 58 (concavity).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowgen.core import InputError
from flowgen.paths.error_curve import ErrorCurve, mean_and_error, ratios, spread
from flowgen.paths.kinetic import FLOOR, kinetic_energy
from flowgen.paths.linear import Linear
from flowgen.paths.schedule import Schedule
from flowgen.paths.trig import Trig

DOUBT = 0.05
"""Share of the energy of the linear path that may be unknown before points count as too few."""


@dataclass(frozen=True)
class DataError:
    """The error of points, between two bounds.

    Args:
        curve: That of the points, on average too low.
        upper: That of the guess without the point itself, on average too high.
        num_points: How many points.
        dimensions: Numbers in one.
    """

    curve: ErrorCurve
    upper: ErrorCurve
    num_points: int
    dimensions: int

    @property
    def memory_bound(self) -> float:
        """``3 n / sqrt(d)``: far below 1 all such points have the linear path as their best."""
        return 3 * self.num_points / math.sqrt(self.dimensions)

    @property
    def energies(self) -> tuple[float, float]:
        """Least and largest kinetic energy of the linear path that the bounds allow."""
        least, largest = (
            kinetic_energy(Linear(), bound, rho=bound.rho) for bound in (self.upper, self.curve)
        )
        return least, largest

    @property
    def doubt(self) -> float:
        """Share of the energy of the linear path that the points leave open, from 0 to 1."""
        least, largest = self.energies
        return (largest - least) / largest

    @property
    def trustworthy(self) -> bool:
        """Whether the points are enough to tell the error of their distribution."""
        return self.doubt <= DOUBT

    def schedule(self, *, floor: float = FLOOR, num_nodes: int = 257) -> Schedule:
        """Return the schedule of least kinetic energy for the points.

        That is :class:`Trig` where they tell the error, and by the upper bound too no table does
        better: even a Gaussian's points look a little separated, as each is alone from close by.
        """
        found = self.curve.schedule(floor=floor, num_nodes=num_nodes)
        if self.trustworthy:
            energies = [kinetic_energy(s, self.upper, rho=self.upper.rho) for s in (found, Trig())]
            if energies[1] <= energies[0]:
                return Trig()
        return found


@torch.no_grad()
def error_of_data(
    x_1: Float[Tensor, "n *d"],
    snr: Float[Tensor, " m"] | None = None,
    *,
    num_noise: int = 1024,
    num_nodes: int = 31,
    chunk: int = 2048,
    generator: torch.Generator | None = None,
) -> DataError:
    """Return the error left in guessing points from noisy ones, with its bounds.

    Time grows as ``m num_noise n d``; memory as ``chunk^2 + (num_noise + n) d``. All of it is
    float64. The same noise serves all ratios, so that differences between them are sharp.

    Args:
        x_1: Points as the model sees them, ``(n, *d)``, n >= 2; they need not be centred.
        snr: Ratios to estimate at, strictly rising, above 0; None takes ``num_nodes`` good ones.
        num_noise: Noisy points at each ratio, >= 4; an odd number is rounded up.
        num_nodes: Number of ratios, >= 1.
        chunk: Largest number of points, and of noisy points, compared at once, >= 1.
        generator: Draws the noise, on the device of ``x_1``.

    Raises:
        InputError: If a number is out of range, or the data are constant or not finite.

    Source: Shaul et al. 2023, arXiv 2306.06626, estimate lambda itself; the posterior variance is
        never negative and has half the standard deviation.
    """
    for name, value, least in (("num_noise", num_noise, 4), ("chunk", chunk, 1)):
        if value < least:
            raise InputError(f"{name} must be >= {least}, got {value}")
    points, variance, mean_square = spread(x_1)
    snr = ratios(variance, num_nodes) if snr is None else snr
    n, dimensions = points.shape
    half = -(-num_noise // 2)
    # Every point as often as any other, up to one: nothing is left to chance there.
    rounds = [
        torch.randperm(n, generator=generator, device=points.device) for _ in range(-(-half // n))
    ]
    own = torch.cat(rounds)[:half]
    noise = torch.randn(
        half, dimensions, generator=generator, device=points.device, dtype=torch.float64
    )
    rows: list[tuple[float, ...]] = []
    for s in snr.tolist():
        parts = []
        for rows_of in torch.arange(half, device=points.device).split(chunk):
            # Noise and its opposite: what is odd in it cancels, and their mean is one sample.
            both = [_errors(points, own[rows_of], z * noise[rows_of], s, chunk) for z in (1, -1)]
            parts.append([(one + other) / 2 for one, other in zip(*both, strict=True)])
        inside, outside = (torch.cat(part) / dimensions for part in zip(*parts, strict=True))
        rows.append((*mean_and_error(inside), *mean_and_error(outside)))
    table = torch.tensor(rows, dtype=torch.float64)
    curve, upper = (
        ErrorCurve(snr, table[:, i], table[:, i + 1], variance=variance, mean_square=mean_square)
        for i in (0, 2)
    )
    return DataError(curve, upper, n, dimensions)


def _errors(
    points: Float[Tensor, "n k"],
    own: Int[Tensor, " c"],
    noise: Float[Tensor, "c k"],
    s: float,
    chunk: int,
) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Return the posterior variance at noisy points, and with what leaving the own point out adds.

    Sums over points are kept relative to the largest weight so far, chunk by chunk.
    """
    true = points[own]
    states = s * true + noise
    nothing = torch.finfo(states.dtype).min / 2  # its weight is 0 beside that of any point
    top = states.new_full((len(own),), nothing)
    total, square = torch.zeros_like(top), torch.zeros_like(top)
    first = torch.zeros_like(true)
    for start in range(0, len(points), chunk):
        part = points[start : start + chunk]
        length = part.square().sum(dim=1)
        logits = s * (states @ part.mT) - (s * s / 2) * length
        mine = own - start
        here = (mine >= 0) & (mine < len(part))
        logits[here, mine[here]] = nothing
        new_top = torch.maximum(top, logits.amax(dim=1))
        weights = (logits - new_top[:, None]).exp_()
        shrink = (top - new_top).exp()
        total = shrink * total + weights.sum(dim=1)
        square = shrink * square + weights @ length
        first = shrink[:, None] * first + weights @ part
        top = new_top
    guess = first / total[:, None]
    length = true.square().sum(dim=1)
    logits = s * (states * true).sum(dim=1) - (s * s / 2) * length
    new_top = torch.maximum(top, logits)
    shrink, weight = (top - new_top).exp(), (logits - new_top).exp()
    total = shrink * total + weight
    mean = (shrink[:, None] * first + weight[:, None] * true) / total[:, None]
    inside = (shrink * square + weight * length) / total - mean.square().sum(dim=1)
    inside = inside.clamp(min=0)
    # |true - mean|^2 is the variance on average, whichever point it was; their difference is noise.
    excess = (true - guess).square().sum(dim=1) - (true - mean).square().sum(dim=1)
    return inside, inside + excess.clamp(min=0)
