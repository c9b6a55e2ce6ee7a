"""Transformer of two streams: image and text with weights of their own, and one attention for both.

Each stream has its modulation, projections and two-layer network; queries, keys and values of both
are put in one sequence for the attention, so that text is changed by the image as well. The vector
``c`` of time, mean of the text and labels modulates both (Esser et al. 2024, arXiv 2403.03206,
section 4 and figure 2). In the last block text is looked at and does not look: nobody needs it any
more.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from flowgen.core import Condition, InputError
from flowgen.models.attention import Attention, KeysValues, attend
from flowgen.models.checks import check_fraction, check_inputs, check_positive
from flowgen.models.conditioning import TEXT, TEXT_MASK, Classes, ConditionEmbedding
from flowgen.models.feed_forward import GELUFeedForward, check_ratio
from flowgen.models.norms import Norm, ScalingNorm, norm_of
from flowgen.models.patches import Patches
from flowgen.models.positions import Positions, RotaryPositions
from flowgen.models.text_readers import TextReader


class Stream(nn.Module):
    """What one kind of tokens has for itself in a block.

    Args:
        width: Size of a token.
        heads: Number of attention heads.
        mlp_ratio: Hidden size of the two-layer network over ``width``.
        dropout: Fraction of features dropped from each branch, in ``[0, 1)``.
        norm: Builds the modulated normalisation from ``width``.
        feed_forward: Builds the two-layer network from ``(width, mlp_ratio)``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        norm: Callable[[int], Norm],
        feed_forward: Callable[[int, float], nn.Module],
    ) -> None:
        super().__init__()
        self.norm = norm_of(norm, width)
        self.attention = Attention(width, heads)
        self.mlp = feed_forward(width, mlp_ratio)
        self.dropout = nn.Dropout(dropout)

    def begin(
        self,
        tokens: Float[Tensor, "b n w"],
        modulation: Float[Tensor, "#b 6 w"],
        rotation: Float[Tensor, "2 n k"] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of the tokens, each ``(b, h, n, d)``."""
        shift, scale = modulation[:, :2].unsqueeze(2).unbind(1)
        return self.attention.parts(self.norm(tokens, shift, scale), rotation)

    def end(
        self,
        tokens: Float[Tensor, "b n w"],
        modulation: Float[Tensor, "#b 6 w"],
        mixed: Float[Tensor, "b h n d"],
    ) -> Float[Tensor, "b n w"]:
        """Return the new tokens, given what the attention found for them."""
        gate, shift, scale, mlp_gate = modulation[:, 2:].unsqueeze(2).unbind(1)
        branch = self.attention.out(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + gate * self.dropout(branch)
        branch = self.mlp(self.norm(tokens, shift, scale))
        return tokens + mlp_gate * self.dropout(branch)


class MMDiTBlock(nn.Module):
    """One block of both streams. Arguments are those of :class:`Stream`."""

    modulations = 12
    """Vectors of modulation that it takes: shift, scale and gate of the branches of both."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        norm: Callable[[int], Norm],
        feed_forward: Callable[[int, float], nn.Module],
    ) -> None:
        super().__init__()
        self.image = Stream(width, heads, mlp_ratio, dropout, norm, feed_forward)
        self.text = Stream(width, heads, mlp_ratio, dropout, norm, feed_forward)

    def forward(
        self,
        image: Float[Tensor, "b n w"],
        text: Float[Tensor, "b l w"],
        modulation: Float[Tensor, "#b 12 w"],
        rotation: Float[Tensor, "2 n k"] | None,
        mask: Bool[Tensor, "b m"],
    ) -> tuple[Tensor, Tensor]:
        """Return the new tokens of image and text.

        Args:
            image: Shape ``(b, n, w)``.
            text: Shape ``(b, l, w)``.
            modulation: Of the image, then of the text.
            rotation: Angles of the image's rotary positions, or None.
            mask: Which of the tokens of text and image, in this order, are looked at.
        """
        of_image, of_text = modulation.chunk(2, dim=1)
        words, patches = self.text.begin(text, of_text), self.image.begin(image, of_image, rotation)
        q, k, v = (torch.cat(both, dim=2) for both in zip(words, patches, strict=True))
        for_text, for_image = attend(q, k, v, mask).split([text.shape[1], image.shape[1]], dim=2)
        return self.image.end(image, of_image, for_image), self.text.end(text, of_text, for_text)


class LastBlock(nn.Module):
    """The last block: the image looks at both, the text at nothing. Arguments as before."""

    modulations = 8
    """Six vectors of the image, shift and scale of the text."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        norm: Callable[[int], Norm],
        feed_forward: Callable[[int, float], nn.Module],
    ) -> None:
        super().__init__()
        self.image = Stream(width, heads, mlp_ratio, dropout, norm, feed_forward)
        self.norm = norm_of(norm, width)
        self.text = KeysValues(width, heads)

    def forward(
        self,
        image: Float[Tensor, "b n w"],
        text: Float[Tensor, "b l w"],
        modulation: Float[Tensor, "#b 8 w"],
        rotation: Float[Tensor, "2 n k"] | None,
        mask: Bool[Tensor, "b m"],
    ) -> tuple[Tensor, Tensor]:
        """Return the new tokens of the image, and the text as it is; see :class:`MMDiTBlock`."""
        of_image, of_text = modulation[:, :6], modulation[:, 6:]
        shift, scale = of_text.unsqueeze(2).unbind(1)
        words = self.text(self.norm(text, shift, scale))
        q, *patches = self.image.begin(image, of_image, rotation)
        k, v = (torch.cat(both, dim=2) for both in zip(words, patches, strict=True))
        return self.image.end(image, of_image, attend(q, k, v, mask)), text


class MMDiT(nn.Module):
    """Transformer over patches of an image and tokens of a text.

    Args:
        shape: Channels, height and width of one sample.
        num_classes: Number of labels beside the text, or of the classes of each name, or None.
        text_width: Features of a token of text.
        patch: Side of a patch in pixels; must divide height and width.
        width: Size of a token, a multiple of ``heads``.
        depth: Number of blocks, at least 1.
        heads: Number of attention heads.
        mlp_ratio: Hidden size of the two-layer networks over ``width``, above 0.
        feed_forward: Builds them from ``(width, mlp_ratio)``: ``GELUFeedForward`` or ``SwiGLU``.
        positions: Builds the positions of the image from ``(grid, width, heads)``.
        norm: Builds the modulated normalisation from ``width``.
        dropout: Fraction of features dropped from each branch while training, in ``[0, 1)``.
        gradient_checkpointing: Compute blocks again in the backward pass: less memory, more time.
        interval: Whether it is told the length of a jump, as the network of a flow map is.
        guided: Whether it is told the scale of its guidance, as a student for a range of them is.
        max_frequency: Of the embedding of times, radians per unit of time, above 1.

    Raises:
        InputError: If an argument leaves its range or ``patch`` does not divide the image.

    Source: Esser et al. 2024, arXiv 2403.03206, section 4.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Classes = None,
        *,
        text_width: int | None,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        feed_forward: Callable[[int, float], nn.Module] = GELUFeedForward,
        positions: Callable[[tuple[int, int], int, int], Positions] = RotaryPositions,
        norm: Callable[[int], Norm] = ScalingNorm,
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
        interval: bool = False,
        guided: bool = False,
        max_frequency: float = 100.0,
    ) -> None:
        super().__init__()
        if text_width is None:
            raise InputError(
                "MMDiT reads text, and there is none: use data with captions (data=emoji), or "
                "another model (model=dit)"
            )
        check_positive(width=width, depth=depth, heads=heads, text_width=text_width)
        check_fraction("dropout", dropout)
        check_ratio(mlp_ratio)
        self.patches = Patches(shape, patch)
        self.shape = self.patches.shape
        self.width = width
        self.gradient_checkpointing = gradient_checkpointing
        self.condition = ConditionEmbedding(
            num_classes,
            width,
            text_width=text_width,
            interval=interval,
            guided=guided,
            max_frequency=max_frequency,
        )
        self.embed = nn.Linear(self.patches.size, width)
        self.reader = TextReader(text_width, width, heads)
        self.positions = positions(self.patches.grid, width, heads)
        kinds = [MMDiTBlock] * (depth - 1) + [LastBlock]
        self.blocks = nn.ModuleList(
            kind(width, heads, mlp_ratio, dropout, norm, feed_forward) for kind in kinds
        )
        # Of every block, and shift and scale of the last norm.
        self.parts = [*(kind.modulations for kind in kinds), 2]
        self.modulation = nn.Linear(width, sum(self.parts) * width)
        self.norm = norm_of(norm, width)
        self.out = nn.Linear(width, self.patches.size)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for zero in (self.modulation, self.out):
            nn.init.zeros_(zero.weight)
        self.condition.zero_told()

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the network output, shape ``(b, c, h, w)``.

        Args:
            x: States, shape ``(b, c, h, w)``.
            t: Times in ``[0, 1]``, shape ``(b,)``.
            cond: ``text (b, l, text_width)``, ``text_mask (b, l)``, and the classes the network was
                built for.

        Raises:
            InputError: If shapes, types or conditions are not those the network was built for.
        """
        check_inputs(x, t, self.shape)
        modulation = self.modulation(functional.silu(self.condition(t, cond)))
        modulation = modulation.view(-1, sum(self.parts), self.width)
        *by_block, last = modulation.split(self.parts, dim=1)
        assert cond is not None
        text, seen = self.reader.embed(cond[TEXT]), cond[TEXT_MASK]
        patches = self.patches.cut(x.to(self.embed.weight.dtype))
        image = self.positions.embed(self.embed(patches))
        everywhere = torch.ones_like(seen[:, :1]).expand(-1, self.patches.count)
        mask, rotation = torch.cat([seen, everywhere], dim=1), self.positions.rotation()
        for block, of_block in zip(self.blocks, by_block, strict=True):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                image, text = checkpoint(
                    block, image, text, of_block, rotation, mask, use_reentrant=False
                )
            else:
                image, text = block(image, text, of_block, rotation, mask)
        shift, scale = last.unsqueeze(2).unbind(1)
        return self.patches.join(self.out(self.norm(image, shift, scale)))
