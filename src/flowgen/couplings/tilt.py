"""How far pair weights tilt the two distributions, and how to take the tilt out again.

Weights ``w(x_0, x_1)`` on independent pairs turn the source density into ``q_0(x) tau_0(x)`` with
``tau_0(x) = E_{x_1} w(x, x_1)`` and the data density into ``q_1(y) tau_1(y)`` with
``tau_1(y) = E_{x_0} w(x_0, y)``: a model then learns the path between two other distributions. The
relative variance ``RV = Var(tau) / E[tau]^2`` says how far; 0 is none.

Over all pairs of a batch, the weights are a kernel ``w_ij``. Dividing its columns by their means
makes ``tau_1 = 1``; scaling rows and columns in turn (Sinkhorn) makes both 1. As the rows of a
batch are exchangeable and paired at random, the corrected sides are then exact in expectation.
"""

import math
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from flowgen.core import InputError


@runtime_checkable
class TiltCorrection(Protocol):
    """Turns the weights of all pairs of a batch into ones with less tilt and mean 1.

    Attributes:
        exact_marginals: Whether both sides keep their distribution.
    """

    exact_marginals: bool

    def __call__(self, log_weights: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Return corrected log weights ``(n, m)`` from those of all pairs ``(x_0_i, x_1_j)``."""
        ...


class DataTilt:
    """Divides by the mean over the batch's source samples: the data side is exact.

    ``w_ij / mean_i w_ij``: half a Sinkhorn step. All tilt is then on the source side, which the
    sampler does not know of either.

    Attributes:
        exact_marginals: False: the source stays tilted.
    """

    exact_marginals: bool = False

    def __call__(self, log_weights: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Return ``log_weights (n, m)`` whose columns have mean weight 1."""
        return log_weights - log_mean_exp(log_weights, 0)


class SinkhornTilt:
    """Scales rows and columns in turn until both have mean 1: no tilt on either side.

    The result is ``n^2`` times the plan of entropic transport between the two sides of the batch.
    Weighing independent pairs by it learns the same law as drawing pairs from it, at a higher
    variance.

    Args:
        iterations: Sweeps over rows and columns, >= 1. The columns are exact after any number; what
            is left on the rows is ``coupling/rv_x``.

    Attributes:
        exact_marginals: True, once the sweeps have converged.

    Raises:
        InputError: If ``iterations`` is less than 1.

    Source: Cuturi 2013, arXiv 1306.0895, in the log domain.
    """

    exact_marginals: bool = True

    def __init__(self, iterations: int = 50) -> None:
        if iterations < 1:
            raise InputError(f"iterations must be >= 1, got {iterations}")
        self.iterations = iterations

    def __call__(self, log_weights: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Return ``log_weights (n, m)`` whose columns and rows have mean weight 1."""
        for _ in range(self.iterations):
            log_weights = log_weights - log_mean_exp(log_weights, 1)
            log_weights = log_weights - log_mean_exp(log_weights, 0)
        return log_weights


def log_mean_exp(x: Float[Tensor, "n m"], dim: int) -> Float[Tensor, "..."]:
    """Return ``log mean exp`` over one axis, which stays with length 1."""
    return x.logsumexp(dim, keepdim=True) - math.log(x.shape[dim])


def relative_variance(
    log_weights: Float[Tensor, "n m"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return ``RV`` of the source and of the data side, of the weights of all pairs.

    It holds the noise of the sample too, about ``1 / (ESS m)`` and ``1 / (ESS n)``.

    Args:
        log_weights: Of all pairs ``(x_0_i, x_1_j)``, shape ``(n, m)``; a constant added to them
            changes nothing.
    """
    weights = (log_weights - log_weights.max()).exp()
    sides = [weights.mean(dim) for dim in (1, 0)]
    x, y = ((tau / tau.mean()).var(correction=0) for tau in sides)
    return x, y


def effective_share(weights: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return ``(sum w)^2 / (n sum w^2)``, in (0, 1]: the share of rows that count."""
    return weights.sum().square() / (len(weights) * weights.square().sum())
