"""Inner products of all pairs of two samples, in full precision, by the fastest library there is.

On some x86 processors that are not Intel's, MKL leaves half of the speed of single precision;
oneDNN, which PyTorch carries too, does not. What compiled models call of it takes tensors as they
are.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_DIMS = 32
"""Dimensions from which on the product, and not the memory of its result, takes the time."""

_WORTH = 2**23
"""Multiplications from which on oneDNN saves more than it costs to call."""


def inner_products(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return ``x_i . y_j``, shape ``(n, m)``, in the type of both, also inside autocast.

    Args:
        x: ``(n, d)``.
        y: ``(m, d)``, of the same type and device.
    """
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return inner_products(x, y)
    if (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] >= _DIMS
        and x.numel() * len(y) >= _WORTH
        and not (x.requires_grad or y.requires_grad)  # it has no derivative
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return torch.ops.mkldnn._linear_pointwise(x, y, None, "none", [], "")
    return x @ y.mT
