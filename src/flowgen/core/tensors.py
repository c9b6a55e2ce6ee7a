"""Broadcasting and reductions, written once so that no other file reshapes times by hand."""

from jaxtyping import Float, Shaped
from torch import Tensor


def expand(t: Shaped[Tensor, " b"], x: Tensor) -> Tensor:
    """Return ``t`` of shape ``(b,)`` as ``(b, 1, ..., 1)``, to broadcast against ``x (b, *d)``.

    Raises:
        ValueError: If ``t`` is not a vector with one entry for each row of ``x``.
    """
    if t.ndim != 1 or t.shape[0] != x.shape[0]:
        raise ValueError(f"t must have shape ({x.shape[0]},), got {tuple(t.shape)}")
    return t.reshape(-1, *([1] * (x.ndim - 1)))


def is_shared(t: Shaped[Tensor, " b"]) -> bool:
    """Return whether all rows of ``t`` are one number in memory, as after ``t[:1].expand(b)``.

    Samplers give a field such times, so that a network can embed the one time once. Looks at the
    strides alone, so it neither waits for a device nor breaks a graph.
    """
    return t.shape[0] > 1 and t.stride(0) == 0


def flatten(x: Float[Tensor, "b *d"]) -> Float[Tensor, "b n"]:
    """Return ``x`` of shape ``(b, *d)`` as ``(b, n)``."""
    return x.reshape(x.shape[0], -1)


def mean_over_dims(x: Float[Tensor, "b *d"]) -> Float[Tensor, " b"]:
    """Return the mean over all axes but the batch, shape ``(b,)``."""
    return flatten(x).mean(dim=1)
