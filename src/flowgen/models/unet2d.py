"""The U-Net of diffusers (``UNet2DModel``) behind the interface of the other networks.

Its own embedding of a time step is given the constant 0; time and conditions enter as the vector
``c`` beside it, which all its blocks add. So times are embedded as smoothly as ``max_frequency``
says, which few-step methods need, and every kind of condition works.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import Condition, InputError
from flowgen.models.checks import check_fraction, check_inputs, check_positive, sample_shape
from flowgen.models.conditioning import Classes, ConditionEmbedding


class UNet2D(nn.Module):
    """``diffusers.UNet2DModel`` with time and conditions as one vector.

    Args:
        shape: Channels, height and width of one sample; both sides a multiple of
            ``2^(levels - 1)``.
        num_classes: Number of labels, or of the classes of each name, or None for none.
        channels: Features at each level, finest first; multiples of ``groups``.
        num_blocks: Residual blocks of a level, at least 1.
        attention_levels: Levels with self-attention, 0 the finest.
        head_width: Features of an attention head.
        groups: Of the group norms.
        dropout: Fraction of features dropped in residual blocks, in ``[0, 1)``.
        text_width: Features of a token of text, or None; the mean of the tokens enters.
        interval: Whether it is told the length of a jump, as the network of a flow map is.
        guided: Whether it is told the scale of its guidance, as a student for a range of them is.
        max_frequency: Of the embedding of times, radians per unit of time, above 1.

    Raises:
        InputError: If an argument leaves its range or does not fit the image.

    Source: Ho et al. 2020, arXiv 2006.11239; the implementation is that of diffusers.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: Classes = None,
        *,
        channels: Sequence[int] = (64, 128, 256),
        num_blocks: int = 2,
        attention_levels: Sequence[int] = (2,),
        head_width: int = 32,
        groups: int = 32,
        dropout: float = 0.0,
        text_width: int | None = None,
        interval: bool = False,
        guided: bool = False,
        max_frequency: float = 100.0,
    ) -> None:
        super().__init__()
        # A heavy import, for those who use it.
        from diffusers import UNet2DModel

        self.shape = sample_shape(shape, num_axes=3)
        sizes = tuple(int(size) for size in channels)
        check_positive(num_blocks=num_blocks, head_width=head_width, groups=groups)
        check_fraction("dropout", dropout)
        if not sizes or any(size < 1 or size % groups or size % head_width for size in sizes):
            raise InputError(
                f"channels must be multiples of groups {groups} and of head_width {head_width}, "
                f"got {list(channels)}"
            )
        if any(level not in range(len(sizes)) for level in attention_levels):
            raise InputError(
                f"attention_levels must name levels 0 to {len(sizes) - 1}, got "
                f"{list(attention_levels)}"
            )
        coarsest = 2 ** (len(sizes) - 1)
        if any(side % coarsest for side in self.shape[1:]):
            raise InputError(
                f"{len(sizes)} levels need sides that are multiples of {coarsest}, got "
                f"{self.shape[1]} x {self.shape[2]}"
            )
        attends = [level in attention_levels for level in range(len(sizes))]
        self.network: Any = UNet2DModel(
            in_channels=self.shape[0],
            out_channels=self.shape[0],
            block_out_channels=sizes,
            layers_per_block=num_blocks,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
            attention_head_dim=head_width,
            norm_num_groups=groups,
            dropout=dropout,
            class_embed_type="identity",
        )
        self.condition = ConditionEmbedding(
            num_classes,
            4 * sizes[0],
            text_width=text_width,
            interval=interval,
            guided=guided,
            max_frequency=max_frequency,
        )
        nn.init.zeros_(self.network.conv_out.weight)
        nn.init.zeros_(self.network.conv_out.bias)

    def forward(self, x: Tensor, t: Tensor, cond: Condition | None = None) -> Tensor:
        """Return the network output, shape ``(b, c, h, w)``.

        Args:
            x: States, shape ``(b, c, h, w)``.
            t: Times in ``[0, 1]``, shape ``(b,)``.
            cond: The conditions the network was built for; None for none.

        Raises:
            InputError: If shapes, types or conditions are not those the network was built for.
        """
        check_inputs(x, t, self.shape)
        weight = self.network.conv_out.weight
        c = self.condition(t, cond).to(weight.dtype).expand(x.shape[0], -1)
        still = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        return self.network(x.to(weight.dtype), still, class_labels=c).sample
