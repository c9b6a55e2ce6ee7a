"""The two-layer network of a transformer block, in two kinds."""

import math

from torch import Tensor, nn
from torch.nn import functional

from flowgen.core import InputError
from flowgen.models.checks import check_positive

_MULTIPLE = 64
"""Hidden widths that hardware multiplies well."""


class GELUFeedForward(nn.Sequential):
    """``W_2 gelu(W_1 x)``, with ``ratio`` times as many hidden features.

    Args:
        width: Features of a token.
        ratio: Hidden features over ``width``, above 0.

    Raises:
        InputError: If ``ratio`` is not above 0.
    """

    def __init__(self, width: int, ratio: float = 4.0) -> None:
        hidden = max(1, round(check_ratio(ratio) * width))
        super().__init__(
            nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)
        )


class SwiGLU(nn.Module):
    """``W_3 (silu(W_1 x) * W_2 x)`` with two thirds of the hidden features, and so as many weights.

    Args:
        width: Features of a token.
        ratio: As for :class:`GELUFeedForward`; ``2 ratio / 3`` times ``width`` hidden features,
            rounded up to a multiple of 64 where there are as many.

    Raises:
        InputError: If ``ratio`` is not above 0.

    Source: Shazeer 2020, arXiv 2002.05202, section 2.
    """

    def __init__(self, width: int, ratio: float = 4.0) -> None:
        super().__init__()
        check_positive(width=width)
        hidden = max(1, round(check_ratio(ratio) * width * 2 / 3))
        if hidden > _MULTIPLE:
            hidden = -(-hidden // _MULTIPLE) * _MULTIPLE
        self.project = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the new features, shape ``(*, width)``."""
        gate, value = self.project(x).chunk(2, dim=-1)
        return self.out(functional.silu(gate) * value)


def check_ratio(ratio: float) -> float:
    """Return the ratio.

    Raises:
        InputError: If it is not finite and above 0.
    """
    if not (math.isfinite(ratio) and ratio > 0):
        raise InputError(f"mlp_ratio must be finite and above 0, got {ratio}")
    return ratio
