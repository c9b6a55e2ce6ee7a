"""From one prediction to another: one formula for every pair.

``x_t = alpha x_1 + sigma x_0`` and ``y = a x_1 + b x_0`` are two equations for ``x_1`` and ``x_0``;
solved and put into ``y' = p x_1 + q x_0`` they give

    ``y' = ((p b - q a) x_t + (q alpha - p sigma) y) / (alpha b - sigma a)``.

Everything is linear, so the same holds for posterior means, that is for what a network learns:
for any coupling and any source.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from flowgen.core import Coefficients, InputError, expand
from flowgen.paths.affine import AffinePath
from flowgen.paths.path import Path
from flowgen.paths.predictions import Noise, Prediction, Velocity

_SMALL = 1e-6  # a determinant this small at an end of [0, 1] is a 0 with rounding error


def convert(
    y: Float[Tensor, "..."],
    x_t: Float[Tensor, "b *d"],
    coefficients: Coefficients,
    src: Prediction,
    dst: Prediction,
) -> Float[Tensor, "b *d"]:
    """Return prediction ``dst`` from prediction ``src``; ``y`` itself if they are equal.

    Args:
        y: Prediction ``src``, shape ``(b, *d)``.
        x_t: States, shape ``(b, *d)``.
        coefficients: Of the path at the time of each row, each ``(b,)``.
        src: What ``y`` is.
        dst: What is wanted.

    Returns:
        Shape ``(b, *d)``; not finite where ``src`` does not determine ``dst``.

    Raises:
        InputError: If ``y`` and ``x_t`` have different shapes.
        ValueError: If there is not one coefficient per row.

    Source: Algebra; special cases in Ma et al. 2024, arXiv 2401.08740, and Lipman et al. 2024,
        arXiv 2412.06264, table 1.
    """
    if y.shape != x_t.shape:
        raise InputError(
            f"y and x_t must have one shape, got {tuple(y.shape)} and {tuple(x_t.shape)}"
        )
    if src == dst:
        return y
    a, b = src(coefficients)
    p, q = dst(coefficients)
    alpha, sigma = coefficients.alpha, coefficients.sigma
    determinant = alpha * b - sigma * a
    of_state = (p * b - q * a) / determinant
    of_prediction = (q * alpha - p * sigma) / determinant
    return expand(of_state, x_t) * x_t + expand(of_prediction, y) * y


def score_from_velocity(
    v: Float[Tensor, "..."], x_t: Float[Tensor, "b *d"], coefficients: Coefficients
) -> Float[Tensor, "b *d"]:
    """Return the score ``grad log p_t = -E[x_0 | x_t] / sigma`` of a marginal velocity.

    True only if, given the data, the source is N(0, I): a standard Gaussian source and a coupling
    with ``score_valid``. After an optimal-transport coupling it is some other vector. Not finite
    where ``sigma = 0``.

    Args:
        v: Marginal velocity, shape ``(b, *d)``.
        x_t: States, shape ``(b, *d)``.
        coefficients: Of the path at the time of each row, each ``(b,)``.

    Returns:
        Shape ``(b, *d)``, per unit of ``x_t``.

    Raises:
        InputError: If ``v`` and ``x_t`` have different shapes.

    Source: Ma et al. 2024, arXiv 2401.08740, section 2.
    """
    noise = convert(v, x_t, coefficients, Velocity(), Noise())
    return -noise / expand(coefficients.sigma, x_t)


def velocity_domain(prediction: Prediction, path: Path, t_eps: float) -> tuple[float, float]:
    """Return the closed range of times in which ``prediction`` determines a finite velocity.

    It is the path's domain, drawn in to the distance ``t_eps`` from each end of ``[0, 1]`` at which
    the conversion divides by 0: the data end for :class:`Data` (unless noise is left there), the
    noise end for :class:`Noise` (unless data is left there).

    Args:
        prediction: What the network predicts.
        path: The path it is trained on.
        t_eps: Distance in time kept from a singular end, in ``(0, 0.5)``.

    Raises:
        InputError: If ``t_eps`` is out of range, or no velocity follows from the prediction, as on
            a path with latent noise.
    """
    if not 0 < t_eps < 0.5:
        raise InputError(f"t_eps must be in (0, 0.5), got {t_eps}")
    low, high = path.domain
    if prediction == Velocity():
        return low, high
    if not isinstance(path, AffinePath):
        raise InputError(
            f"{type(path).__name__} has latent noise, so the velocity follows from no other "
            "prediction: use prediction=velocity"
        )
    # The singularity sits at an end of [0, 1] even where the path's own domain stops before it.
    ends = path.schedule(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu"))
    a, b = prediction(ends)
    start, end = (abs(float(value)) for value in ends.alpha * b - ends.sigma * a)
    # Written so that a determinant that is not a number counts as singular too.
    low = low if start > _SMALL else max(low, t_eps)
    high = high if end > _SMALL else min(high, 1 - t_eps)
    return low, high
