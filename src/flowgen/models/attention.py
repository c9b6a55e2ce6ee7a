"""Attention, and the one place that chooses its kernel.

``softmax(q k^T / sqrt(d)) v``. Torch's fused kernel is the default. Plain products stand in for it
on the CPU in bfloat16 up to some thousand tokens, where they are several times faster than its
backward pass, and under forward-mode differentiation, which no fused kernel supports
(``with math_attention():``). Queries and keys are normalised by head, which keeps the logits
bounded in half precision (Dehghani 2023, arXiv 2302.05442, section 2).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from flowgen.core import InputError
from flowgen.models.checks import check_positive
from flowgen.models.positions import rotate

MOST_LOGITS = 1024 * 1024
"""Logits of one head, tokens times tokens, up to which plain products are faster on a CPU in
bfloat16: 6 times with 49 tokens, 2.7 with 256, 1.15 with 1024 and no more beyond, where they fill
the memory (forward and backward, one core of an AMD EPYC of family 26, torch 2.13)."""

_math_depth = 0


@contextmanager
def math_attention() -> Iterator[None]:
    """Compute attention by plain products inside the context, as ``torch.func.jvp`` needs.

    A plain counter, since a compiled block must be able to read it; it holds for all threads.
    Networks that call torch's function themselves get its plain kernel.
    """
    global _math_depth
    _math_depth += 1
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        _math_depth -= 1


def attend(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m d"],
    mask: Bool[Tensor, "#b m"] | None = None,
) -> Float[Tensor, "b h n d"]:
    """Return ``softmax(q k^T / sqrt(d)) v`` by the kernel that suits device, type and context.

    Args:
        q: Queries, shape ``(b, h, n, d)``.
        k: Keys, shape ``(b, h, m, d)``.
        v: Values, shape ``(b, h, m, d)``.
        mask: Shape ``(b or 1, m)``: true where a key is looked at, at least once in each row; None
            for everywhere.
    """
    seen = None if mask is None else mask[:, None, None, :]
    if _math_depth or _plain_is_faster(q, k):
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if seen is not None:
            logits = torch.where(seen, logits, -torch.inf)
        return logits.softmax(dim=-1).to(v.dtype) @ v
    return functional.scaled_dot_product_attention(q, k, v, seen)


def _plain_is_faster(q: Tensor, k: Tensor) -> bool:
    half = q.device.type == "cpu" and q.dtype == torch.bfloat16
    return half and q.shape[-2] * k.shape[-2] <= MOST_LOGITS


class HeadNorm(nn.RMSNorm):
    """Root-mean-square norm of the features of one head, with a learned scale."""

    def forward(self, x: Float[Tensor, "b h n d"]) -> Float[Tensor, "b h n d"]:
        """Return the normalised features in the type of ``x``."""
        # Autocast leaves the scale in float32, and torch's fused kernel wants one type.
        weight = self.weight.to(x.dtype)
        return functional.rms_norm(x, self.normalized_shape, weight, self.eps)


class Attention(nn.Module):
    """Self-attention.

    Args:
        width: Size of a token, a multiple of ``heads``.
        heads: Number of heads, at least 1.
        qk_norm: Whether queries and keys are normalised, which bounds the logits.

    Raises:
        InputError: If ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool = True) -> None:
        super().__init__()
        self.heads = check_heads(width, heads)
        self.project = nn.Linear(width, 3 * width)
        self.norm_q, self.norm_k = head_norms(width // heads, qk_norm)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        tokens: Float[Tensor, "b n w"],
        rotation: Float[Tensor, "2 n k"] | None = None,
        mask: Bool[Tensor, "#b n"] | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Return the mixed tokens, shape ``(b, n, w)``.

        Args:
            tokens: Shape ``(b, n, w)``.
            rotation: Angles of rotary positions, see :func:`flowgen.models.positions.rotate`.
            mask: Tokens that are looked at, shape ``(b or 1, n)``; None for all.
        """
        mixed = attend(*self.parts(tokens, rotation), mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def parts(
        self, tokens: Float[Tensor, "b n w"], rotation: Float[Tensor, "2 n k"] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of tokens, each ``(b, h, n, d)``."""
        b, n, _ = tokens.shape
        q, k, v = self.project(tokens).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = self.norm_q(q), self.norm_k(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return q.to(v.dtype), k.to(v.dtype), v


class KeysValues(nn.Module):
    """Keys and values of tokens that are looked at and do not look themselves.

    Args:
        width: Size of a token, a multiple of ``heads``.
        heads: Number of heads, at least 1.
        qk_norm: Whether keys are normalised.

    Raises:
        InputError: If ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool = True) -> None:
        super().__init__()
        self.heads = check_heads(width, heads)
        self.project = nn.Linear(width, 2 * width)
        _, self.norm_k = head_norms(width // heads, qk_norm)

    def forward(self, tokens: Float[Tensor, "b n w"]) -> tuple[Tensor, Tensor]:
        """Return keys and values of tokens, each ``(b, h, n, d)``."""
        b, n, _ = tokens.shape
        k, v = self.project(tokens).view(b, n, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.norm_k(k).to(v.dtype), v


class CrossAttention(nn.Module):
    """Attention of tokens to others: queries of the ones, keys and values of the others.

    Args:
        width: Size of a token, a multiple of ``heads``.
        heads: Number of heads, at least 1.
        qk_norm: Whether queries and keys are normalised.

    Raises:
        InputError: If ``heads`` does not divide ``width``.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool = True) -> None:
        super().__init__()
        self.heads = check_heads(width, heads)
        self.query = nn.Linear(width, width)
        self.norm_q, _ = head_norms(width // heads, qk_norm)
        self.others = KeysValues(width, heads, qk_norm=qk_norm)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        tokens: Float[Tensor, "b n w"],
        others: Float[Tensor, "b m w"],
        mask: Bool[Tensor, "#b m"] | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Return what each token takes from the others, shape ``(b, n, w)``.

        Args:
            tokens: That look, shape ``(b, n, w)``.
            others: That are looked at, shape ``(b, m, w)``.
            mask: Which of the others, shape ``(b or 1, m)``; None for all.
        """
        b, n, _ = tokens.shape
        q = self.norm_q(self.query(tokens).view(b, n, self.heads, -1).transpose(1, 2))
        k, v = self.others(others)
        mixed = attend(q.to(v.dtype), k, v, mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


def check_heads(width: int, heads: int) -> int:
    """Return the number of heads.

    Raises:
        InputError: If it does not divide ``width``.
    """
    check_positive(width=width, heads=heads)
    if width % heads:
        raise InputError(f"heads must divide width, got {heads} heads for width {width}")
    return heads


def head_norms(head_width: int, qk_norm: bool) -> tuple[nn.Module, nn.Module]:
    """Return the norms of queries and keys."""
    if not qk_norm:
        return nn.Identity(), nn.Identity()
    return HeadNorm(head_width, eps=1e-6), HeadNorm(head_width, eps=1e-6)
