"""Feature extractors by the name that a user writes."""

from collections.abc import Callable
from pathlib import Path

import torch

from flowgen.core import InputError
from flowgen.metrics import (
    EfficientNetLite0Features,
    FeatureExtractor,
    InceptionFeatures,
    PixelFeatures,
)


def extractor_for(
    name: str, device: torch.device, inception_weights: str | Path | None = None
) -> FeatureExtractor:
    """Return the feature extractor of a name; ``auto`` is EfficientNet-Lite0.

    Args:
        name: ``auto``, ``effnet_lite0``, ``pixels`` or ``inception``.
        device: Where features are computed.
        inception_weights: File with the weights of Inception-v3, for ``inception``.

    Raises:
        InputError: If the name is unknown, or its package is not installed.
    """
    extractors: dict[str, Callable[[], FeatureExtractor]] = {
        "auto": lambda: EfficientNetLite0Features(device=device),
        EfficientNetLite0Features.name: lambda: EfficientNetLite0Features(device=device),
        PixelFeatures.name: PixelFeatures,
        InceptionFeatures.name: lambda: _inception(inception_weights, device),
    }
    if name not in extractors:
        raise InputError(f"extractor must be one of {', '.join(extractors)}, got '{name}'")
    return extractors[name]()


def _inception(weights: str | Path | None, device: torch.device) -> InceptionFeatures:
    if weights is None:
        raise InputError(
            "extractor=inception needs inception_weights=<file>: the weights of the PyTorch port "
            "of inception-2015-12-05 (pt_inception-2015-12-05-6726825d.pth)"
        )
    return InceptionFeatures(weights, device=device)
