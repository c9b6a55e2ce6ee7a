"""Inner products of all pairs of two samples, in full precision, by the fastest library there is.

On an x86 processor that is not Intel's, MKL leaves half of the speed of single precision; oneDNN,
which PyTorch carries too, does not. PyTorch takes it for tensors in its layout.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

_DIMS = 32
"""Dimensions from which on the product, and not the memory of its result, takes the time."""

_WORTH = 2**23
"""Multiplications from which on oneDNN saves more than it costs to change the layout."""


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
        and torch.backends.mkldnn.is_available()
    ):
        return linear(x.to_mkldnn(), y).to_dense()
    return x @ y.mT
