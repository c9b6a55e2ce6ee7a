"""Diffusion transformer: an image as a grid of patches, modulated by time and condition.

``h = h + g_1 Attention(m_1(h))``, ``h = h + g_2 MLP(m_2(h))`` with ``m(h) = LayerNorm(h) (1 + a) +
b``; the six vectors ``(b, a, g)`` of every block are linear in ``SiLU(c)`` and start at zero, so
that each block starts as the identity and the network as zero (adaLN-zero; Peebles and Xie 2022,
arXiv 2212.09748, section 3.2). The modulations of all blocks depend on ``c`` alone and come from
one matrix product.
"""

import math
from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from flowgen.core import Condition, InputError
from flowgen.models.attention import Attention
from flowgen.models.checks import check_fraction, check_inputs, check_positive, sample_shape
from flowgen.models.conditioning import ConditionEmbedding
from flowgen.models.norms import Norm, ScalingNorm
from flowgen.models.positions import Positions, RotaryPositions


class DiTBlock(nn.Module):
    """One block: attention and a two-layer network, both gated and modulated.

    Args:
        width: Size of a token.
        heads: Number of attention heads.
        mlp_width: Size of the hidden layer.
        dropout: Fraction of features dropped from each branch, in ``[0, 1)``.
        norm: Builds the modulated normalisation from ``width``.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        dropout: float,
        norm: Callable[[int], Norm] = ScalingNorm,
    ) -> None:
        super().__init__()
        self.norm = norm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width), nn.GELU(approximate="tanh"), nn.Linear(mlp_width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "b n w"],
        modulation: Float[Tensor, "#b 6 w"],
        rotation: Float[Tensor, "2 n k"] | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Return the new tokens, shape ``(b, n, w)``.

        Args:
            tokens: Shape ``(b, n, w)``.
            modulation: Shift, scale and gate of both branches, shape ``(b, 6, w)``; zero makes the
                block the identity.
            rotation: Angles of rotary positions, or None.
        """
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.unsqueeze(2).unbind(1)
        branch = self.attention(self.norm(tokens, shift, scale), rotation)
        tokens = tokens + gate * self.dropout(branch)
        branch = self.mlp(self.norm(tokens, mlp_shift, mlp_scale))
        return tokens + mlp_gate * self.dropout(branch)


class DiT(nn.Module):
    """Transformer over patches of an image; the network output has the shape of the image.

    Args:
        shape: Channels, height and width of one sample.
        num_classes: Number of labels, or None for an unconditional network.
        patch: Side of a patch in pixels; must divide height and width.
        width: Size of a token, a multiple of ``heads``.
        depth: Number of blocks, at least 1.
        heads: Number of attention heads.
        mlp_ratio: Hidden size of the two-layer networks over ``width``, above 0.
        positions: Builds the positions from ``(grid, width, heads)``: ``RotaryPositions``,
            ``LearnedPositions``, or a partial of one.
        norm: Builds the modulated normalisation from ``width``: ``ScalingNorm``, or
            ``NonScalingNorm`` for consistency training on latents.
        dropout: Fraction of features dropped from each branch while training, in ``[0, 1)``.
        interval: Whether it is told the length of a jump, as the network of a flow map is.
        max_frequency: Of the embedding of times, radians per unit of time, above 1; low ones make
            the network smooth in time, which few-step methods need that differentiate it.

    Raises:
        InputError: If an argument leaves its range or ``patch`` does not divide the image.

    Source: Peebles and Xie 2022, arXiv 2212.09748.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int | None = None,
        *,
        patch: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        positions: Callable[[tuple[int, int], int, int], Positions] = RotaryPositions,
        norm: Callable[[int], Norm] = ScalingNorm,
        dropout: float = 0.0,
        interval: bool = False,
        max_frequency: float = 100.0,
    ) -> None:
        super().__init__()
        self.shape = sample_shape(shape, num_axes=3)
        check_positive(patch=patch, width=width, depth=depth, heads=heads)
        check_fraction("dropout", dropout)
        channels, height, image_width = self.shape
        if height % patch or image_width % patch:
            raise InputError(f"patch {patch} must divide the image, {height} x {image_width}")
        if not (math.isfinite(mlp_ratio) and mlp_ratio > 0):
            raise InputError(f"mlp_ratio must be finite and above 0, got {mlp_ratio}")
        self.patch, self.width, self.depth = patch, width, depth
        self.grid = (height // patch, image_width // patch)
        self.condition = ConditionEmbedding(
            num_classes, width, interval=interval, max_frequency=max_frequency
        )
        self.modulation = nn.Linear(width, (6 * depth + 2) * width)
        self.embed = nn.Linear(channels * patch**2, width)
        self.blocks = nn.ModuleList(
            DiTBlock(width, heads, max(1, round(mlp_ratio * width)), dropout, norm)
            for _ in range(depth)
        )
        self.positions = positions(self.grid, width, heads)
        self.norm = norm(width)
        self.out = nn.Linear(width, channels * patch**2)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for zero in (self.modulation, self.out):
            nn.init.zeros_(zero.weight)
        self.condition.zero_interval()

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the network output, shape ``(b, c, h, w)``.

        Args:
            x: States, shape ``(b, c, h, w)``.
            t: Times in ``[0, 1]``, shape ``(b,)``.
            cond: ``{"label": int64 (b,)}`` for a conditional network, else None.

        Raises:
            InputError: If shapes, types or conditions are not those the network was built for.
        """
        check_inputs(x, t, self.shape)
        modulation = self.modulation(functional.silu(self.condition(t, cond)))
        modulation = modulation.view(-1, 6 * self.depth + 2, self.width)
        *by_block, last = modulation.split([6] * self.depth + [2], dim=1)
        rotation = self.positions.rotation()
        tokens = self.positions.embed(self.embed(self._patches(x.to(self.embed.weight.dtype))))
        for block, of_block in zip(self.blocks, by_block, strict=True):
            tokens = block(tokens, of_block, rotation)
        shift, scale = last.unsqueeze(2).unbind(1)
        return self._image(self.out(self.norm(tokens, shift, scale)))

    def _patches(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n k"]:
        (rows, columns), p = self.grid, self.patch
        x = x.view(-1, self.shape[0], rows, p, columns, p)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, rows * columns, self.shape[0] * p * p)

    def _image(self, patches: Float[Tensor, "b n k"]) -> Float[Tensor, "b c h w"]:
        (rows, columns), p = self.grid, self.patch
        patches = patches.view(-1, rows, columns, self.shape[0], p, p)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(-1, *self.shape)
