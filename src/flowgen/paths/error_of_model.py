"""What is left to guess of the data, read off a trained velocity field.

At a given state the pair velocity scatters around the marginal one as ``x_1`` does around its
posterior mean, times ``Delta / sigma`` with ``Delta = d_alpha sigma - alpha d_sigma``. So the loss
per dimension of a field that has learned gives the error at the ratio of its time:

    mmse(alpha / sigma) = (sigma / Delta)^2 E|v(x_t, t) - v_t|^2 / d.

What the field has not learned adds to it: the estimate is too high by the excess loss. On held-out
samples nothing is memorised, however few they are for their dimension.

Source: derived here; the loss of the best field is that of Lipman et al. 2023, arXiv 2210.02747,
theorem 2.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import (
    Condition,
    InputError,
    Pair,
    VelocityField,
    domain_of,
    flatten,
)
from flowgen.paths.affine import AffinePath
from flowgen.paths.error_curve import ErrorCurve, mean_and_error, ratios, spread


@torch.no_grad()
def error_of_model(
    field: VelocityField,
    path: AffinePath,
    x_1: Float[Tensor, "n *d"],
    cond: Condition | None = None,
    snr: Float[Tensor, " m"] | None = None,
    *,
    num_samples: int = 4096,
    num_nodes: int = 63,
    chunk: int = 1024,
    generator: torch.Generator | None = None,
) -> ErrorCurve:
    """Return the error left in guessing the data, as the loss of a trained field tells it.

    The field must have been trained from N(0, I) with independent pairs. With conditions the error
    is that of a guess which knows them.

    Args:
        field: The trained field, in evaluation mode.
        path: The path it was trained on.
        x_1: Samples as the field sees them ``(n, *d)``, n >= 2, best held out from its training.
        cond: Their conditions, each ``(n, ...)``.
        snr: Ratios to estimate at, strictly rising, above 0; None takes ``num_nodes`` good ones.
            Those that path or field do not know are left out.
        num_samples: Noisy samples at each ratio, >= 4, an odd number is rounded up; the same noise
            serves all ratios.
        num_nodes: Number of ratios, >= 1.
        chunk: Samples through the field at once, >= 1.
        generator: Draws samples and noise, on the device of ``x_1``.

    Raises:
        InputError: If a number is out of range, or the data are constant or not finite.
    """
    for name, value, least in (("num_samples", num_samples, 4), ("chunk", chunk, 1)):
        if value < least:
            raise InputError(f"{name} must be >= {least}, got {value}")
    _, variance, mean_square = spread(x_1)
    snr = ratios(variance, num_nodes) if snr is None else snr
    pairs = _pairs(x_1, cond, -(-num_samples // 2), chunk, generator)
    times = _times(field, path, snr, x_1.dtype)
    c = path.coefficients(times.double())
    factor = (c.sigma / c.wronskian).square().tolist()
    rows = []
    for time, scale in zip(times.tolist(), factor, strict=True):
        squares = []
        for pair in pairs:
            t = pair.x_1.new_full((len(pair),), time)
            both = []
            # Noise and its opposite: what is odd in it cancels, and their mean is one sample.
            for x_0 in (pair.x_0, -pair.x_0):
                point = path.sample(Pair(x_0, pair.x_1), t)
                difference = field(point.x_t, t, pair.cond) - point.v_t
                both.append(flatten(difference).double().square().mean(dim=1))
            squares.append((both[0] + both[1]) / 2)
        rows.append(mean_and_error(scale * torch.cat(squares)))
    table = torch.tensor(rows, dtype=torch.float64)
    return ErrorCurve(
        c.alpha / c.sigma, table[:, 0], table[:, 1], variance=variance, mean_square=mean_square
    )


def _pairs(
    x_1: Tensor,
    cond: Condition | None,
    num_samples: int,
    chunk: int,
    generator: torch.Generator | None,
) -> list[Pair]:
    """Return independent pairs, every sample as often as any other, up to one."""
    rounds = -(-num_samples // len(x_1))
    order = torch.cat(
        [torch.randperm(len(x_1), generator=generator, device=x_1.device) for _ in range(rounds)]
    )
    pairs = []
    for rows in order[:num_samples].split(chunk):
        chosen = x_1[rows]
        noise = torch.randn(chosen.shape, generator=generator, device=x_1.device, dtype=x_1.dtype)
        own = None if cond is None else {name: value[rows] for name, value in cond.items()}
        pairs.append(Pair(noise, chosen, own))
    return pairs


def _times(field: VelocityField, path: AffinePath, snr: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the times of the ratios inside both domains, each once, on the CPU in ``dtype``."""
    ends = [path.domain, domain_of(field)]
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    times = path.schedule.snr_inverse(snr.cpu().double()).to(dtype)
    known = times[(times >= low) & (times <= high) & (times > 0) & (times < 1)]
    ratio = path.coefficients(known.double())
    rising = (ratio.alpha / ratio.sigma).diff(prepend=torch.zeros(1).double()) > 0
    if not bool(rising.any()):
        raise InputError("path and field share no time at the ratios to estimate at")
    return known[rising]
