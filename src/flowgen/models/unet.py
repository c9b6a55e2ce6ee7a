"""U-Net for images: residual blocks on a pyramid of resolutions with skips between its two sides.

Each block computes ``h + conv(SiLU(GroupNorm(conv(SiLU(GroupNorm(h)))) (1 + a) + b))`` with scale
and shift ``a, b`` linear in the condition vector; low resolutions add self-attention. A level
halves the image (rounding up) and the way back resizes to the size of the skip, so every size
works. Last layers of all branches start at zero: each block starts as the identity.
(Ho 2020, arXiv 2006.11239, appendix B; Dhariwal and Nichol 2021, arXiv 2105.05233, section 3.)
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from flowgen.core import Condition, InputError
from flowgen.models.attention import Attention
from flowgen.models.checks import check_fraction, check_inputs, check_positive, sample_shape
from flowgen.models.conditioning import ConditionEmbedding

ZeroModule = TypeVar("ZeroModule", bound=nn.Module)


class ResidualBlock(nn.Module):
    """Two convolutions with the condition in between, and attention after them where asked.

    Args:
        channels_in: Channels of the input.
        channels: Channels of the output.
        condition_width: Size of the condition vector.
        dropout: Fraction of features dropped before the second convolution, in ``[0, 1)``.
        heads: Heads of the self-attention, or None for none.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        condition_width: int,
        *,
        dropout: float = 0.0,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        self.norm_in, self.norm = _group_norm(channels_in), _group_norm(channels)
        self.conv_in = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.conv = _zero(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = _zero(nn.Linear(condition_width, 2 * channels))
        self.dropout = nn.Dropout(dropout)
        same = channels_in == channels
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1)
        self.attention = None if heads is None else ImageAttention(channels, heads)

    def forward(
        self, h: Float[Tensor, "b c_in h w"], c: Float[Tensor, "#b k"]
    ) -> Float[Tensor, "b c h w"]:
        """Return the new features; ``c`` is the activated condition vector, shape ``(b, k)``."""
        branch = self.conv_in(functional.silu(self.norm_in(h)))
        scale, shift = self.modulation(c)[:, :, None, None].chunk(2, dim=1)
        branch = functional.silu(self.norm(branch) * (1 + scale) + shift)
        h = self.skip(h) + self.conv(self.dropout(branch))
        return h if self.attention is None else self.attention(h)


class ImageAttention(nn.Module):
    """Self-attention over all pixels of an image, added to it; starts as the identity.

    Args:
        channels: Channels of the image, a multiple of ``heads``.
        heads: Number of heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = _group_norm(channels)
        self.attention = Attention(channels, heads)
        _zero(self.attention.out)

    def forward(self, h: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return ``h`` plus attention over its pixels."""
        tokens = self.norm(h).flatten(2).transpose(1, 2)
        return h + self.attention(tokens).transpose(1, 2).reshape(h.shape)


class Halving(nn.Module):
    """Convolution of stride 2 to the next level, whose sides are half as long, rounded up.

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(
        self, h: Float[Tensor, "b c h w"], c: Float[Tensor, "#b k"]
    ) -> Float[Tensor, "b c h_half w_half"]:
        """Return the smaller image; the condition plays no part."""
        return self.conv(h)


class UNet(nn.Module):
    """U-Net of residual blocks; the network output has the shape of the image.

    Args:
        shape: Channels, height and width of one sample; any size the levels can halve.
        num_classes: Number of labels, or None for an unconditional network.
        width: Channels of the first level.
        multipliers: Channels of each level over ``width``; one level for each entry.
        num_blocks: Residual blocks of a level on the way down (one more on the way up).
        attention_levels: Levels with self-attention, 0 is the full image, -1 the smallest.
        heads: Attention heads; must divide the channels of those levels.
        dropout: Fraction of features dropped in each block while training, in ``[0, 1)``.
        interval: Whether it is told the length of a jump, as the network of a flow map is.
        guided: Whether it is told the scale of its guidance, as a student for a range of them is.
        max_frequency: Of the embedding of times, radians per unit of time, above 1; low ones make
            the network smooth in time, which few-step methods need that differentiate it.

    Raises:
        InputError: If an argument leaves its range, or the smallest level would have one pixel.

    Source: Dhariwal and Nichol 2021, arXiv 2105.05233, section 3.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int | None = None,
        *,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        num_blocks: int = 2,
        attention_levels: Sequence[int] = (-1,),
        heads: int = 4,
        dropout: float = 0.0,
        interval: bool = False,
        guided: bool = False,
        max_frequency: float = 100.0,
    ) -> None:
        super().__init__()
        self.shape = sample_shape(shape, num_axes=3)
        check_positive(width=width, num_blocks=num_blocks, heads=heads)
        check_fraction("dropout", dropout)
        levels = len(multipliers)
        if levels < 1 or any(multiplier < 1 for multiplier in multipliers):
            raise InputError(f"multipliers must be positive integers, got {list(multipliers)}")
        if any(not -levels <= level < levels for level in attention_levels):
            raise InputError(
                f"attention_levels must name levels 0 to {levels - 1}, got {list(attention_levels)}"
            )
        if min(self.shape[1:]) <= 2 ** (levels - 1) and levels > 1:
            raise InputError(
                f"{levels} levels are too many for {self.shape[1]} x {self.shape[2]} pixels: "
                "give fewer multipliers"
            )
        attended = {level % levels for level in attention_levels}
        condition_width = 4 * width

        def block(channels_in: int, channels: int, level: int) -> ResidualBlock:
            of_level = heads if level in attended else None
            return ResidualBlock(
                channels_in, channels, condition_width, dropout=dropout, heads=of_level
            )

        widths = [width * multiplier for multiplier in multipliers]
        self.condition = ConditionEmbedding(
            num_classes,
            condition_width,
            interval=interval,
            guided=guided,
            max_frequency=max_frequency,
        )
        self.embed = nn.Conv2d(self.shape[0], width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        channels, skips = width, [(width, 0)]
        for level, of_level in enumerate(widths):
            if level:
                self.down.append(Halving(channels))
                skips.append((channels, level))
            for _ in range(num_blocks):
                self.down.append(block(channels, of_level, level))
                channels = of_level
                skips.append((channels, level))
        self.middle = block(channels, channels, levels - 1)
        for skip_channels, level in reversed(skips):
            self.up.append(block(channels + skip_channels, widths[level], level))
            channels = widths[level]
        self.norm = _group_norm(channels)
        self.out = _zero(nn.Conv2d(channels, self.shape[0], 3, padding=1))

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
        c = functional.silu(self.condition(t, cond))
        h = self.embed(x.to(self.embed.weight.dtype))
        skips = [h]
        for layer in self.down:
            h = layer(h, c)
            skips.append(h)
        h = self.middle(h, c)
        for layer in self.up:
            skip = skips.pop()
            if h.shape[-2:] != skip.shape[-2:]:
                h = functional.interpolate(h, size=skip.shape[-2:])
            h = layer(torch.cat([h, skip], dim=1), c)
        return self.out(functional.silu(self.norm(h)))


def _group_norm(channels: int) -> nn.GroupNorm:
    # At most 32 groups, at least four channels in each where there are that many.
    return nn.GroupNorm(math.gcd(32 * 4, channels) // 4 or 1, channels)


def _zero(module: ZeroModule) -> ZeroModule:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
