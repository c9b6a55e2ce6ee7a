"""Images to the normalised latents of an autoencoder, and back.

The autoencoder is one of diffusers'. Its settings stand in the codec's config and its weights in
the checkpoint beside those of the model, so that a model of latents is one file that samples alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowgen.core import InputError
from flowgen.data.autoencoder import built, decoded, encoded

_AT_ONCE = 64  # images that pass through the autoencoder together


class LatentCodec(nn.Module):
    """Images ``(b, c, h, w)`` uint8 to latents ``(b, *latent_shape)`` of about unit scale.

    Args:
        autoencoder: Settings of the autoencoder as diffusers writes them, its ``_class_name``
            among them, one of
            :data:`flowgen.data.autoencoder.KINDS`.
        image_shape: Channels, height and width of an image.
        latent_shape: The same of its latents.
        mean: Of each channel of the latents, over the data.
        std: Their standard deviations, positive.
        digest: Of settings and weights, by :func:`flowgen.data.autoencoder.digest_of`.

    Raises:
        InputError: If the kind is unknown, or numbers do not fit.

    Source: Rombach et al. 2022, arXiv 2112.10752.
    """

    def __init__(
        self,
        autoencoder: Mapping[str, Any],
        image_shape: Sequence[int],
        latent_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        digest: str,
    ) -> None:
        super().__init__()
        self.settings = dict(autoencoder)
        self.image_shape = tuple(int(size) for size in image_shape)
        self.latent_shape = tuple(int(size) for size in latent_shape)
        if len(self.image_shape) != 3 or len(self.latent_shape) != 3:
            raise InputError(
                f"image_shape and latent_shape must be (c, h, w), got {self.image_shape} and "
                f"{self.latent_shape}"
            )
        if not len(mean) == len(std) == self.latent_shape[0] or not all(each > 0 for each in std):
            raise InputError(
                f"mean and std must be {self.latent_shape[0]} numbers, std > 0, got {mean}, {std}"
            )
        self.digest = digest
        self.network: Any = built(self.settings)
        self.requires_grad_(False)
        self.eval()
        self.mean: Tensor
        self.std: Tensor
        # Part of the config: as buffers they only follow the device.
        self.register_buffer("mean", _column(mean), persistent=False)
        self.register_buffer("std", _column(std), persistent=False)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Return normalised latents ``(b, *latent_shape)`` float32.

        Args:
            x: Images uint8 ``(b, *image_shape)``, whose latents are the means of their
                distributions; or latents as ``flowgen encode`` stores them, of any float type.

        Raises:
            InputError: If it is neither.
        """
        if x.dtype == torch.uint8 and tuple(x.shape[1:]) == self.image_shape:
            z = torch.cat([encoded(self.network, part)[0] for part in x.split(_AT_ONCE)])
        elif x.is_floating_point() and tuple(x.shape[1:]) == self.latent_shape:
            z = x.float()
        else:
            raise InputError(
                f"x must be uint8 images {self.image_shape} or latents {self.latent_shape}, got "
                f"{x.dtype} {tuple(x.shape[1:])}"
            )
        return (z - self.mean) / self.std

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return images uint8 ``(b, *image_shape)`` of normalised latents ``z``."""
        raw = z.float() * self.std + self.mean
        # A graph that is traced has no fixed number of parts.
        whole = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        pieces = (raw,) if whole else raw.split(_AT_ONCE)
        parts = [decoded(self.network, part) for part in pieces]
        return (torch.cat(parts).clamp(-1.0, 1.0).add(1.0) * 127.5).round().to(torch.uint8)

    def encoded_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the latents of images of ``shape``.

        Raises:
            InputError: If the images have another shape than those it was made for.
        """
        if tuple(shape) != self.image_shape:
            raise InputError(f"the latents are of images {self.image_shape}, not {tuple(shape)}")
        return self.latent_shape

    def to_config(self) -> dict[str, object]:
        """Return the plain ``_target_`` dict that builds this codec again, without its weights."""
        return {
            "_target_": "flowgen.data.LatentCodec",
            "autoencoder": self.settings,
            "image_shape": list(self.image_shape),
            "latent_shape": list(self.latent_shape),
            "mean": [float(each) for each in self.mean.flatten()],
            "std": [float(each) for each in self.std.flatten()],
            "digest": self.digest,
        }

    def train(self, mode: bool = True) -> "LatentCodec":
        """Stay in evaluation mode: the autoencoder is finished."""
        del mode
        return super().train(False)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor([float(value) for value in values]).reshape(-1, 1, 1)
