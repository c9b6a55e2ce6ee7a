"""Embedding of the time itself, smooth in ``t``.

``e(t) = [cos(f_k t), sin(f_k t)]`` with angular frequencies ``f_k`` spaced geometrically from 1 to
``max_frequency`` and a two-layer network after it. The derivative in ``t`` is bounded by
``max_frequency``, which few-step methods rely on when they differentiate the network in time:
embedding a log-noise level, or frequencies of 1000 and more, makes that derivative explode
(Lu and Song 2024, arXiv 2410.11081, section 4.1). Times are never rounded to half precision.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from flowgen.core import InputError, is_shared


class TimeEmbedding(nn.Module):
    """Returns ``MLP([cos(f t), sin(f t)])`` for times in ``[0, 1]``, shape ``(b, width)``.

    Args:
        width: Size of the embedding, at least 1.
        num_frequencies: Number of frequencies, at least 2.
        max_frequency: Largest angular frequency, radians per unit of time, above 1. Times closer
            than about ``1 / max_frequency`` look alike.

    Raises:
        InputError: If an argument leaves its range.

    Source: Vaswani 2017, arXiv 1706.03762, section 3.5, on a continuous time.
    """

    frequencies: Tensor

    def __init__(
        self, width: int, *, num_frequencies: int = 128, max_frequency: float = 100.0
    ) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width must be at least 1, got {width}")
        if num_frequencies < 2:
            raise InputError(f"num_frequencies must be at least 2, got {num_frequencies}")
        if not (math.isfinite(max_frequency) and max_frequency > 1.0):
            raise InputError(f"max_frequency must be finite and above 1, got {max_frequency}")
        exponents = torch.linspace(0.0, 1.0, num_frequencies, dtype=torch.float64)
        self.register_buffer("frequencies", (max_frequency**exponents).float(), persistent=False)
        self.project = nn.Linear(2 * num_frequencies, width)
        self.out = nn.Linear(width, width)

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "#b width"]:
        """Return the embedding of ``t (b,)``, in the precision of the weights.

        A time that all rows share (:func:`flowgen.core.is_shared`) has one row, ``(1, width)``.
        """
        if is_shared(t):
            t = t[:1]
        # Autocast would round the features, and with them the times, to eight bits.
        with torch.autocast(t.device.type, enabled=False):
            angles = t[:, None] * self.frequencies.to(t.dtype)
            features = torch.cat([angles.cos(), angles.sin()], dim=1)
            hidden = self.project(features.to(self.project.weight.dtype))
            return self.out(functional.silu(hidden))
