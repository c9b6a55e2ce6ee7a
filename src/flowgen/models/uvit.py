"""U-ViT: everything is a token, and blocks of the second half see those of the first.

The time, every condition and the patches of the image stand in one sequence with learned positions,
through plain transformer blocks; block ``depth - 1 - i`` gets the tokens after block ``i`` beside
its own, put together by a linear layer, as the two sides of a U-Net are (Bao et al. 2022,
arXiv 2209.12152, section 3). No modulation; text, where there is some, is read in the sequence.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flowgen.core import Condition, InputError
from flowgen.models.attention import Attention
from flowgen.models.checks import check_fraction, check_inputs, check_positive
from flowgen.models.conditioning import (
    TEXT,
    TEXT_MASK,
    TOLD,
    Classes,
    ConditionEmbedding,
)
from flowgen.models.feed_forward import GELUFeedForward, check_ratio
from flowgen.models.norms import Norm, ScalingNorm, norm_of
from flowgen.models.patches import Patches
from flowgen.models.text_readers import TextReader


class UViTBlock(nn.Module):
    """Attention and a two-layer network, each after a layer norm, with a skip from the first half.

    Args:
        width: Size of a token.
        heads: Number of attention heads.
        mlp_ratio: Hidden size of the two-layer network over ``width``.
        dropout: Fraction of features dropped from each branch, in ``[0, 1)``.
        norm: Builds the normalisation from ``width``.
        feed_forward: Builds the two-layer network from ``(width, mlp_ratio)``.
        skip: Whether it is of the second half.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        norm: Callable[[int], Norm],
        feed_forward: Callable[[int, float], nn.Module],
        *,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.skip = nn.Linear(2 * width, width) if skip else None
        self.norm_attention, self.norm_mlp = (norm_of(norm, width).learned() for _ in range(2))
        self.attention = Attention(width, heads)
        self.mlp = feed_forward(width, mlp_ratio)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "b n w"],
        mask: Bool[Tensor, "b n"] | None = None,
        earlier: Float[Tensor, "b n w"] | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Return the new tokens, shape ``(b, n, w)``.

        Args:
            tokens: Shape ``(b, n, w)``.
            mask: Tokens that are looked at, shape ``(b, n)``; None for all.
            earlier: Tokens of the first half, for a block of the second.
        """
        if self.skip is not None and earlier is not None:
            tokens = self.skip(torch.cat([tokens, earlier], dim=-1))
        branch = self.attention(self.norm_attention(tokens), None, mask)
        tokens = tokens + self.dropout(branch)
        return tokens + self.dropout(self.mlp(self.norm_mlp(tokens)))


class UViT(nn.Module):
    """Transformer with long skips over the tokens of time, conditions and patches.

    Args:
        shape: Channels, height and width of one sample.
        num_classes: Number of labels, or of the classes of each name, or None for none.
        patch: Side of a patch in pixels; must divide height and width.
        width: Size of a token, a multiple of ``heads``.
        depth: Number of blocks, odd: as many with a skip as without, and one in the middle.
        heads: Number of attention heads.
        mlp_ratio: Hidden size of the two-layer networks over ``width``, above 0.
        feed_forward: Builds them from ``(width, mlp_ratio)``: ``GELUFeedForward`` or ``SwiGLU``.
        norm: Builds the normalisation from ``width``: ``ScalingNorm``, or ``NonScalingNorm`` for
            consistency training on latents; nothing modulates it, so it learns its shift and scale.
        dropout: Fraction of features dropped from each branch while training, in ``[0, 1)``.
        text_width: Features of a token of text, or None for a network without text.
        gradient_checkpointing: Compute blocks again in the backward pass: less memory, more time.
        interval: Whether it is told the length of a jump, as the network of a flow map is.
        guided: Whether it is told the scale of its guidance, as a student for a range of them is.
        max_frequency: Of the embedding of times, radians per unit of time, above 1.

    Raises:
        InputError: If an argument leaves its range or ``patch`` does not divide the image.

    Source: Bao et al. 2022, arXiv 2209.12152.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Classes = None,
        *,
        patch: int = 2,
        width: int = 512,
        depth: int = 13,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        feed_forward: Callable[[int, float], nn.Module] = GELUFeedForward,
        norm: Callable[[int], Norm] = ScalingNorm,
        dropout: float = 0.0,
        text_width: int | None = None,
        gradient_checkpointing: bool = False,
        interval: bool = False,
        guided: bool = False,
        max_frequency: float = 100.0,
    ) -> None:
        super().__init__()
        check_positive(width=width, depth=depth, heads=heads)
        check_fraction("dropout", dropout)
        check_ratio(mlp_ratio)
        if depth % 2 == 0:
            raise InputError(f"depth must be odd (half, middle, half), got {depth}")
        self.patches = Patches(shape, patch)
        self.shape = self.patches.shape
        self.depth = depth
        self.gradient_checkpointing = gradient_checkpointing
        self.condition = ConditionEmbedding(
            num_classes,
            width,
            text_width=text_width,
            interval=interval,
            guided=guided,
            max_frequency=max_frequency,
        )
        # What a student or a critic is told besides goes into the token of the time: a token of
        # its own, even one of zeros, would change the attention of all others.
        self.placed = tuple(name for name in self.condition.embeddings if name not in TOLD)
        kinds = 1 + len(self.placed)
        self.reader = None if text_width is None else TextReader(text_width, width, heads)
        self.embed = nn.Linear(self.patches.size, width)
        self.places = nn.Parameter(0.02 * torch.randn(kinds + self.patches.count, width))
        half = depth // 2
        self.blocks = nn.ModuleList(
            UViTBlock(width, heads, mlp_ratio, dropout, norm, feed_forward, skip=i > half)
            for i in range(depth)
        )
        self.norm = norm_of(norm, width).learned()
        self.out = nn.Linear(width, self.patches.size)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.out.weight)
        self.condition.zero_told()

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the network output, shape ``(b, c, h, w)``.

        Args:
            x: States, shape ``(b, c, h, w)``.
            t: Times in ``[0, 1]``, shape ``(b,)``.
            cond: The conditions the network was built for, see
                :class:`flowgen.models.ConditionEmbedding`; None for none.

        Raises:
            InputError: If shapes, types or conditions are not those the network was built for.
        """
        check_inputs(x, t, self.shape)
        time, *others = (v.expand(x.shape[0], -1) for v in self.condition.vectors(t, cond))
        vectors = [time]
        for name, vector in zip(self.condition.embeddings, others, strict=True):
            if name in self.placed:
                vectors.append(vector)
            else:
                vectors[0] = vectors[0] + vector
        patches = self.embed(self.patches.cut(x.to(self.embed.weight.dtype)))
        tokens = torch.cat([torch.stack(vectors, dim=1).to(patches.dtype), patches], dim=1)
        tokens, mask = tokens + self.places, None
        if self.reader is not None:
            assert cond is not None
            text, seen = self.reader.embed(cond[TEXT]), cond[TEXT_MASK]
            everywhere = torch.ones_like(seen[:, :1]).expand(-1, tokens.shape[1])
            tokens = torch.cat([text, tokens], dim=1)
            mask = torch.cat([seen, everywhere], dim=1)
        earlier: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            other = earlier.pop() if i > self.depth // 2 else None
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, mask, other, use_reentrant=False)
            else:
                tokens = block(tokens, mask, other)
            if i < self.depth // 2:
                earlier.append(tokens)
        return self.patches.join(self.out(self.norm(tokens[:, -self.patches.count :])))
