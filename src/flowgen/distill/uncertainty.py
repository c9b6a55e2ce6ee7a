"""A weight of each interval that is learnt: hard ones count less."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from flowgen.models import TimeEmbedding


class Uncertainty(nn.Module):
    """``e^w loss - w`` with a small network ``w(s, t)``, which begins at 0.

    At its best ``e^-w`` is the mean loss of the interval, so all contribute alike.

    Args:
        width: Features of the network.

    Source: Kendall et al. 2018, arXiv 1705.07115; Lu and Song 2024, arXiv 2410.11081, algorithm 1.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.begin = TimeEmbedding(width)
        self.length = TimeEmbedding(width)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, loss: Float[Tensor, " b"], s: Float[Tensor, " b"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Return the weighted loss of each row, shape ``(b,)``.

        Args:
            loss: Of each row, at least 0.
            s: Where its interval begins.
            t: Where it ends.
        """
        with torch.autocast(loss.device.type, enabled=False):
            features = functional.silu(self.begin(s) + self.length(t - s))
            w = self.out(features).squeeze(1).to(loss.dtype)
        return w.exp() * loss - w
