"""Diffusion transformer: an image as a grid of patches, modulated by time and condition.

``h = h + g_1 Attention(m_1(h))``, ``h = h + g_2 MLP(m_2(h))`` with ``m(h) = LayerNorm(h) (1 + a) +
b``; the six vectors ``(b, a, g)`` of every block are linear in ``SiLU(c)`` and start at zero, so
that each block starts as the identity and the network as zero (adaLN-zero; Peebles and Xie 2022,
arXiv 2212.09748, section 3.2). The modulations of all blocks depend on ``c`` alone and come from
one matrix product.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from flowgen.core import Condition
from flowgen.models.attention import Attention
from flowgen.models.checks import check_fraction, check_inputs, check_positive
from flowgen.models.conditioning import TEXT, TEXT_MASK, Classes, ConditionEmbedding
from flowgen.models.feed_forward import GELUFeedForward, check_ratio
from flowgen.models.norms import Norm, ScalingNorm, norm_of
from flowgen.models.patches import Patches
from flowgen.models.positions import Positions, RotaryPositions
from flowgen.models.text_readers import CrossAttended, CrossRead, TextReader, TokenSequence


class DiTBlock(nn.Module):
    """One block: attention and a two-layer network, both gated and modulated.

    Args:
        width: Size of a token.
        heads: Number of attention heads.
        mlp_ratio: Hidden size of the two-layer network over ``width``.
        dropout: Fraction of features dropped from each branch, in ``[0, 1)``.
        norm: Builds the modulated normalisation from ``width``.
        feed_forward: Builds the two-layer network from ``(width, mlp_ratio)``.
        qk_norm: Whether queries and keys are normalised.
        read: What follows the attention: a look at the text, or None.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        norm: Callable[[int], Norm] = ScalingNorm,
        feed_forward: Callable[[int, float], nn.Module] = GELUFeedForward,
        *,
        qk_norm: bool = True,
        read: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm_of(norm, width)
        self.attention = Attention(width, heads, qk_norm=qk_norm)
        self.read = read
        self.mlp = feed_forward(width, mlp_ratio)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "b n w"],
        modulation: Float[Tensor, "#b 6 w"],
        rotation: Float[Tensor, "2 n k"] | None = None,
        mask: Bool[Tensor, "#b n"] | None = None,
        text: Float[Tensor, "b l w"] | None = None,
        text_mask: Bool[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Return the new tokens, shape ``(b, n, w)``.

        Args:
            tokens: Shape ``(b, n, w)``.
            modulation: Shift, scale and gate of both branches, shape ``(b, 6, w)``; zero makes the
                block the identity.
            rotation: Angles of rotary positions, or None.
            mask: Tokens that are looked at, shape ``(b or 1, n)``; None for all.
            text: Embedded text, for a block that looks at it.
            text_mask: Which of it are tokens, shape ``(b, l)``.
        """
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.unsqueeze(2).unbind(1)
        branch = self.attention(self.norm(tokens, shift, scale), rotation, mask)
        tokens = tokens + gate * self.dropout(branch)
        if self.read is not None:
            tokens = self.read(tokens, text, text_mask)
        branch = self.mlp(self.norm(tokens, mlp_shift, mlp_scale))
        return tokens + mlp_gate * self.dropout(branch)


class DiT(nn.Module):
    """Transformer over patches of an image; the network output has the shape of the image.

    Args:
        shape: Channels, height and width of one sample.
        num_classes: Number of labels, or of the classes of each name, or None for none.
        patch: Side of a patch in pixels; must divide height and width.
        width: Size of a token, a multiple of ``heads``.
        depth: Number of blocks, at least 1.
        heads: Number of attention heads.
        mlp_ratio: Hidden size of the two-layer networks over ``width``, above 0.
        feed_forward: Builds them from ``(width, mlp_ratio)``: ``GELUFeedForward`` or ``SwiGLU``.
        qk_norm: Whether queries and keys are normalised, which keeps half precision safe.
        positions: Builds the positions from ``(grid, width, heads)``: ``RotaryPositions``,
            ``LearnedPositions``, or a partial of one.
        norm: Builds the modulated normalisation from ``width``: ``ScalingNorm``, or
            ``NonScalingNorm`` for consistency training on latents.
        dropout: Fraction of features dropped from each branch while training, in ``[0, 1)``.
        text_width: Features of a token of text, or None for a network without text.
        text: Builds what reads text from ``(text_width, width, heads)``: ``CrossAttended`` or
            ``InContext``. Its mean enters the modulation in any case.
        gradient_checkpointing: Compute blocks again in the backward pass instead of keeping what is
            inside of them: less memory, a third more time.
        interval: Whether it is told the length of a jump, as the network of a flow map is.
        guided: Whether it is told the scale of its guidance, as a student for a range of them is.
        max_frequency: Of the embedding of times, radians per unit of time, above 1; low ones make
            the network smooth in time, which few-step methods need that differentiate it.

    Raises:
        InputError: If an argument leaves its range or ``patch`` does not divide the image.

    Source: Peebles and Xie 2022, arXiv 2212.09748.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Classes = None,
        *,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        feed_forward: Callable[[int, float], nn.Module] = GELUFeedForward,
        qk_norm: bool = True,
        positions: Callable[[tuple[int, int], int, int], Positions] = RotaryPositions,
        norm: Callable[[int], Norm] = ScalingNorm,
        dropout: float = 0.0,
        text_width: int | None = None,
        text: Callable[[int, int, int], TextReader] = CrossAttended,
        gradient_checkpointing: bool = False,
        interval: bool = False,
        guided: bool = False,
        max_frequency: float = 100.0,
    ) -> None:
        super().__init__()
        check_positive(width=width, depth=depth, heads=heads)
        check_fraction("dropout", dropout)
        check_ratio(mlp_ratio)
        self.patches = Patches(shape, patch)
        self.shape = self.patches.shape
        self.width, self.depth = width, depth
        self.gradient_checkpointing = gradient_checkpointing
        self.condition = ConditionEmbedding(
            num_classes,
            width,
            text_width=text_width,
            interval=interval,
            guided=guided,
            max_frequency=max_frequency,
        )
        self.modulation = nn.Linear(width, (6 * depth + 2) * width)
        self.embed = nn.Linear(self.patches.size, width)
        self.reader = None if text_width is None else text(text_width, width, heads)
        self.blocks = nn.ModuleList(
            DiTBlock(
                *(width, heads, mlp_ratio, dropout, norm, feed_forward),
                qk_norm=qk_norm,
                read=None if self.reader is None else self.reader.for_block(),
            )
            for _ in range(depth)
        )
        self.positions = positions(self.patches.grid, width, heads)
        self.norm = norm_of(norm, width)
        self.out = nn.Linear(width, self.patches.size)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for zero in (self.modulation, self.out):
            nn.init.zeros_(zero.weight)
        self.condition.zero_told()
        for module in self.modules():
            if isinstance(module, CrossRead):
                module.zero()

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the network output, shape ``(b, c, h, w)``.

        Args:
            x: States, shape ``(b, c, h, w)``.
            t: Times in ``[0, 1]``, shape ``(b,)``.
            cond: ``{"label": int64 (b,)}`` for a conditional network, ``text (b, l, text_width)``
                and ``text_mask (b, l)`` for one with text, else None.

        Raises:
            InputError: If shapes, types or conditions are not those the network was built for.
        """
        check_inputs(x, t, self.shape)
        modulation = self.modulation(functional.silu(self.condition(t, cond)))
        modulation = modulation.view(-1, 6 * self.depth + 2, self.width)
        *by_block, last = modulation.split([6] * self.depth + [2], dim=1)
        patches = self.patches.cut(x.to(self.embed.weight.dtype))
        tokens = self.positions.embed(self.embed(patches))
        sequence = TokenSequence(tokens, self.positions.rotation(), None)
        text = seen = None
        if self.reader is not None:
            assert cond is not None
            text, seen = self.reader.embed(cond[TEXT]), cond[TEXT_MASK]
            sequence = self.reader.begin(sequence, text, seen)
        tokens, rotation, mask = sequence
        for block, of_block in zip(self.blocks, by_block, strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(
                    block, tokens, of_block, rotation, mask, text, seen, use_reentrant=False
                )
            else:
                tokens = block(tokens, of_block, rotation, mask, text, seen)
        if self.reader is not None:
            tokens = self.reader.end(tokens, self.patches.count)
        shift, scale = last.unsqueeze(2).unbind(1)
        return self.patches.join(self.out(self.norm(tokens, shift, scale)))
