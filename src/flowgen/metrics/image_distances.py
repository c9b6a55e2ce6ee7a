"""Distances of generated images to held-out ones, beside the floor that real images reach.

A Frechet or kernel distance has no scale of its own and, at small sample sizes, no zero: the same
measurement is therefore made twice, once for the samples and once for as many real training images,
against the same held-out images. A perfect model that does not memorise scores the floor.
"""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from flowgen.core import InputError
from flowgen.metrics.features import FeatureExtractor
from flowgen.metrics.frechet import GaussianStatistics
from flowgen.metrics.kernel import KernelDistance, kernel_distance

MAX_SUBSET = 1000


@dataclass(frozen=True)
class ImageDistances:
    """Distances to held-out images, with all that is needed to measure them again.

    Args:
        frechet: Of the samples.
        frechet_floor: Of as many training images.
        kernel: Of the samples.
        kernel_floor: Of as many training images.
        extractor: Name of the features; part of the names of the distances.
        protocol: What was done to the images, in words.
        num_samples: Samples, and training images of the floor.
        num_reference: Held-out images.
    """

    frechet: float
    frechet_floor: float
    kernel: KernelDistance
    kernel_floor: KernelDistance
    extractor: str
    protocol: str
    num_samples: int
    num_reference: int

    def values(self) -> dict[str, float]:
        """Return the distances by name, e.g. ``fd_effnet_lite0`` and ``fd_effnet_lite0_floor``."""
        return {
            f"fd_{self.extractor}": self.frechet,
            f"fd_{self.extractor}_floor": self.frechet_floor,
            f"kd_{self.extractor}": self.kernel.mean,
            f"kd_{self.extractor}_floor": self.kernel_floor.mean,
        }


def image_distances(
    samples: UInt8[Tensor, "n c h w"],
    held_out: UInt8[Tensor, "m c h w"],
    training: UInt8[Tensor, "k c h w"],
    extractor: FeatureExtractor,
    *,
    generator: torch.Generator | None = None,
) -> ImageDistances:
    """Return Frechet and kernel distance of samples to held-out images, and their floors.

    As both sides of a comparison must have one size, the first ``min(n, k)`` samples are used and
    as many training images, drawn at random without repetition; the record says how many.

    Args:
        samples: Generated images, ``n >= 2``.
        held_out: Real images that the model was not trained on, ``m >= 2``.
        training: Real training images, ``k >= 2``.
        extractor: The features.
        generator: Draws training images and kernel subsets, on the CPU.

    Raises:
        InputError: If a set has less than 2 images.
    """
    sets = {"samples": samples, "held_out": held_out, "training": training}
    for name, images in sets.items():
        if len(images) < 2:
            raise InputError(f"{name} must hold at least 2 images, got {len(images)}")
    num = min(len(samples), len(training))
    chosen = training[torch.randperm(len(training), generator=generator)[:num]]
    reference = extractor(held_out)
    target = _statistics(reference)

    def distances(images: Tensor) -> tuple[float, KernelDistance]:
        features = extractor(images)
        size = min(MAX_SUBSET, num, len(reference))
        kernel = kernel_distance(features, reference, subset_size=size, generator=generator)
        return _statistics(features).distance(target), kernel

    frechet, kernel = distances(samples[:num])
    frechet_floor, kernel_floor = distances(chosen)
    return ImageDistances(
        frechet=frechet,
        frechet_floor=frechet_floor,
        kernel=kernel,
        kernel_floor=kernel_floor,
        extractor=extractor.name,
        protocol=extractor.protocol,
        num_samples=num,
        num_reference=len(held_out),
    )


def _statistics(features: Tensor) -> GaussianStatistics:
    statistics = GaussianStatistics(features.shape[1])
    statistics.update(features)
    return statistics
