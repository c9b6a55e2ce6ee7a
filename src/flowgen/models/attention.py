"""Attention, and the one place that chooses its kernel.

``softmax(q k^T / sqrt(d)) v``. Torch's fused kernel is the default. Three plain products stand in
for it where it cannot serve: on the CPU in bfloat16, where its backward pass is several times
slower than they are, and under forward-mode differentiation, which no fused kernel supports
(``with math_attention():``). Queries and keys are normalised by head, which keeps the logits
bounded in half precision (Dehghani 2023, arXiv 2302.05442, section 2).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from flowgen.core import InputError
from flowgen.models.checks import check_positive
from flowgen.models.positions import rotate

_math_depth = 0


@contextmanager
def math_attention() -> Iterator[None]:
    """Compute attention by plain products inside the context, as ``torch.func.jvp`` needs.

    A plain counter, since a compiled block must be able to read it; it holds for all threads.
    """
    global _math_depth
    _math_depth += 1
    try:
        yield
    finally:
        _math_depth -= 1


def attend(
    q: Float[Tensor, "b h n d"], k: Float[Tensor, "b h m d"], v: Float[Tensor, "b h m d"]
) -> Float[Tensor, "b h n d"]:
    """Return ``softmax(q k^T / sqrt(d)) v`` by the kernel that suits device, type and context."""
    if _math_depth or (v.device.type == "cpu" and v.dtype == torch.bfloat16):
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return logits.softmax(dim=-1).to(v.dtype) @ v
    return functional.scaled_dot_product_attention(q, k, v)


class HeadNorm(nn.RMSNorm):
    """Root-mean-square norm of the features of one head, with a learned scale."""

    def forward(self, x: Float[Tensor, "b h n d"]) -> Float[Tensor, "b h n d"]:
        """Return the normalised features in the type of ``x``."""
        # Autocast leaves the scale in float32, and torch's fused kernel wants one type.
        weight = self.weight.to(x.dtype)
        return functional.rms_norm(x, self.normalized_shape, weight, self.eps)


class Attention(nn.Module):
    """Self-attention with normalised queries and keys.

    Args:
        width: Size of a token, a multiple of ``heads``.
        heads: Number of heads, at least 1.

    Raises:
        InputError: If ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_positive(width=width, heads=heads)
        if width % heads:
            raise InputError(f"heads must divide width, got {heads} heads for width {width}")
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.norm_q = HeadNorm(width // heads, eps=1e-6)
        self.norm_k = HeadNorm(width // heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "b n w"], rotation: Float[Tensor, "2 n k"] | None = None
    ) -> Float[Tensor, "b n w"]:
        """Return the mixed tokens, shape ``(b, n, w)``.

        Args:
            tokens: Shape ``(b, n, w)``.
            rotation: Angles of rotary positions, see :func:`flowgen.models.positions.rotate`.
        """
        b, n, w = tokens.shape
        q, k, v = self.project(tokens).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = self.norm_q(q), self.norm_k(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        mixed = attend(q.to(v.dtype), k.to(v.dtype), v)
        return self.out(mixed.transpose(1, 2).reshape(b, n, w))
