"""Training of a small autoencoder of images, whose latents a flow then models."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from flowgen.core import InputError, generator_for
from flowgen.data import built
from flowgen.training.schedules import warmup_cosine


class AutoencoderModule(LightningModule):
    """Learns to give images back from a few numbers for each patch.

    The loss is the mean absolute error of pixels in ``[-1, 1]``, plus ``kl_weight`` times the
    divergence of the latents from a unit Gaussian, in nats for each number of an image.

    Args:
        settings: Of ``diffusers.AutoencoderKL``, see :func:`small_autoencoder`.
        lr: Peak learning rate of AdamW.
        total_steps: Optimiser steps of the whole training.
        kl_weight: Keeps latents near unit scale; larger ones lose detail. Not negative.
        seed: Of the draws of latents.

    Raises:
        InputError: If a number is out of range or the settings do not fit.

    Source: Rombach et al. 2022, arXiv 2112.10752, section 3.1, without adversarial loss.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        lr: float = 1e-3,
        total_steps: int = 2000,
        kl_weight: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("lr", lr), ("total_steps", total_steps)):
            if not value > 0:
                raise InputError(f"{name} must be > 0, got {value}")
        if not kl_weight >= 0:
            raise InputError(f"kl_weight must be >= 0, got {kl_weight}")
        self.network: Any = built(settings)
        self.lr = lr
        self.total_steps = total_steps
        self.kl_weight = kl_weight
        self.seed = seed

    def configure_optimizers(self) -> Any:
        """Return AdamW with warm-up over a twentieth of the steps, then half a cosine."""
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.lr, weight_decay=1e-4)
        schedule = warmup_cosine(optimizer, total_steps=self.total_steps, warmup=0.05, final=0.01)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch of uint8 images ``x_1 (b, c, h, w)``."""
        del batch_idx
        x = batch["x_1"].float() / 127.5 - 1.0
        found = self.network.encode(x).latent_dist
        generator = generator_for(self.seed, self.global_step, device=x.device)
        noise = torch.randn(found.mean.shape, generator=generator, device=x.device)
        back = self.network.decode(found.mean + found.std * noise).sample
        divergence = 0.5 * (found.mean.square() + found.var - 1.0 - found.logvar).sum() / x.numel()
        loss = (back - x).abs().mean() + self.kl_weight * divergence
        self.log("loss", loss.detach())
        return loss


def small_autoencoder(
    image_shape: Sequence[int],
    *,
    channels: Sequence[int] = (32, 64, 64),
    latent_channels: int = 4,
    num_blocks: int = 1,
    groups: int = 16,
    attention: bool = False,
) -> dict[str, Any]:
    """Return the settings of an ``AutoencoderKL`` for images of a shape.

    Args:
        image_shape: Channels, height and width; sides are multiples of ``2^(levels - 1)``.
        channels: Features at each level, finest first; each level but the last halves the sides.
        latent_channels: Channels of the latents.
        num_blocks: Residual blocks of a level.
        groups: Of the group norms; divides the features.
        attention: Self-attention at the coarsest level.

    Raises:
        InputError: If a number is out of range or the images do not fit.
    """
    sizes = [int(size) for size in channels]
    counts = {"latent_channels": latent_channels, "num_blocks": num_blocks, "groups": groups}
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} must be >= 1, got {value}")
    if not sizes or any(size < 1 or size % groups for size in sizes):
        raise InputError(f"channels must be multiples of groups {groups}, got {sizes}")
    factor = 2 ** (len(sizes) - 1)
    if any(side % factor for side in image_shape[1:]):
        raise InputError(
            f"{len(sizes)} levels need sides that are multiples of {factor}, got "
            f"{image_shape[1]} x {image_shape[2]}"
        )
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": int(image_shape[0]),
        "out_channels": int(image_shape[0]),
        "down_block_types": ["DownEncoderBlock2D"] * len(sizes),
        "up_block_types": ["UpDecoderBlock2D"] * len(sizes),
        "block_out_channels": sizes,
        "layers_per_block": num_blocks,
        "latent_channels": latent_channels,
        "norm_num_groups": groups,
        "sample_size": int(image_shape[1]),
        "mid_block_add_attention": attention,
        "scaling_factor": 1.0,
    }
