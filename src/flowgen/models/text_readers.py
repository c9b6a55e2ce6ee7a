"""How a transformer reads text: by attention to it in every block, or with it in one sequence.

A reader is built for a network and knows where text goes in and out: :meth:`TextReader.begin`
before the first block, :meth:`TextReader.end` after the last, and what :meth:`TextReader.for_block`
makes after the attention of each.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from flowgen.models.attention import CrossAttention

_EPS = 1e-6


class TokenSequence(NamedTuple):
    """Tokens in one sequence, with what attention needs to know of them."""

    tokens: Tensor
    """Shape ``(b, n, w)``."""

    rotation: Tensor | None
    """Angles of their rotary positions, shape ``(2, n, k)``, or None."""

    mask: Tensor | None
    """Which of them are looked at, bool ``(b, n)``, or None for all."""


class TextReader(nn.Module):
    """Text as tokens of the network's width.

    Args:
        text_width: Features of a token of text.
        width: Of the network.
        heads: Of its attention.
    """

    def __init__(self, text_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.text_width, self.width, self.heads = text_width, width, heads
        self.project = nn.Linear(text_width, width)

    def for_block(self) -> nn.Module | None:
        """Return what a block looks at the text with: ``(tokens, text, mask) -> tokens``."""
        return None

    def embed(self, text: Float[Tensor, "b l k"]) -> Float[Tensor, "b l w"]:
        """Return normalised and projected tokens of text."""
        text = text.to(self.project.weight.dtype)
        return self.project(layer_norm(text, (self.text_width,), eps=_EPS))

    def begin(self, given: TokenSequence, text: Tensor, mask: Tensor) -> TokenSequence:
        """Return the sequence that the blocks see.

        Args:
            given: The tokens of images.
            text: Embedded, shape ``(b, l, w)``.
            mask: True where there is a token of text, shape ``(b, l)``.
        """
        del text, mask
        return given

    def end(self, tokens: Tensor, count: int) -> Tensor:
        """Return the ``count`` tokens of images."""
        del count
        return tokens


class CrossRead(nn.Module):
    """Tokens and what attention to the text adds to them; nothing at the start.

    Args:
        width: Size of a token.
        heads: Of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.attention = CrossAttention(width, heads)

    def forward(
        self,
        tokens: Float[Tensor, "b n w"],
        text: Float[Tensor, "b l w"],
        mask: Bool[Tensor, "b l"],
    ) -> Float[Tensor, "b n w"]:
        """Return the tokens after they have looked at the text, shape ``(b, n, w)``."""
        normal = layer_norm(tokens, (self.width,), eps=_EPS)
        return tokens + self.attention(normal, text, mask)

    def zero(self) -> None:
        """Let text change nothing yet."""
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)


class CrossAttended(TextReader):
    """Every block looks at the text by attention of its own, which starts at zero.

    Source: Chen et al. 2023, arXiv 2310.00426, section 2.2 (after the self-attention, unmodulated).
    """

    def for_block(self) -> CrossRead:
        """Return the attention of a block to the text."""
        return CrossRead(self.width, self.heads)


class InContext(TextReader):
    """Text and image are one sequence, text first; its tokens have no place on the grid.

    Source: Peebles and Xie 2022, arXiv 2212.09748, section 3.2 (in-context conditioning).
    """

    def begin(self, given: TokenSequence, text: Tensor, mask: Tensor) -> TokenSequence:
        """Return text and image as one sequence."""
        tokens, rotation, _ = given
        if rotation is not None:
            cos, sin = rotation
            still = torch.zeros_like(sin[:1]).expand(text.shape[1], -1)
            rotation = torch.stack([torch.cat([still + 1, cos]), torch.cat([still, sin])])
        seen = torch.ones_like(mask[:, :1]).expand(-1, tokens.shape[1])
        return TokenSequence(
            torch.cat([text, tokens], dim=1), rotation, torch.cat([mask, seen], dim=1)
        )

    def end(self, tokens: Tensor, count: int) -> Tensor:
        """Return the tokens of images, which stand last."""
        return tokens[:, -count:]
