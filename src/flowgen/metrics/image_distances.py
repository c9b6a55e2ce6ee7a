"""Distances of generated images to held-out ones, beside the floor that real images reach.

A Frechet or kernel distance has no scale of its own and, at small sample sizes, no zero: the same
measurement is therefore made twice, once for the samples and once for as many real training images,
against the same held-out images. A perfect model that does not memorise scores the floor.

Features come in batches. The Frechet distance needs their mean and covariance only; of the features
themselves the first few are kept, for the metrics that compare single points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flowgen.core import InputError
from flowgen.metrics.features import FeatureExtractor
from flowgen.metrics.frechet import GaussianStatistics
from flowgen.metrics.kernel import KernelDistance, kernel_distance

MAX_SUBSET = 1000
"""Features of each side in a subset of the kernel distance."""


class FeatureSummary:
    """What the metrics need of a set of features that arrives in batches.

    Args:
        keep: How many of the first features are kept themselves, >= 0.

    Attributes:
        statistics: Mean and covariance of all; None before the first batch.

    Raises:
        InputError: If ``keep`` is negative.
    """

    def __init__(self, keep: int) -> None:
        if keep < 0:
            raise InputError(f"keep must be >= 0, got {keep}")
        self.keep = keep
        self.statistics: GaussianStatistics | None = None
        self._kept: list[Tensor] = []

    @property
    def count(self) -> int:
        """How many features have been seen."""
        return 0 if self.statistics is None else self.statistics.count

    @property
    def kept(self) -> Float[Tensor, "n d"]:
        """The first features ``(min(count, keep), d)``.

        Raises:
            InputError: If nothing has been seen.
        """
        if not self._kept:
            raise InputError("no features have been seen")
        return torch.cat(self._kept)

    def update(self, features: Float[Tensor, "n d"]) -> None:
        """Take in ``features (n, d)``."""
        if self.statistics is None:
            self.statistics = GaussianStatistics(features.shape[1])
        room = self.keep - min(self.count, self.keep)
        self.statistics.update(features)
        self._kept.append(features[:room].detach().cpu().clone())

    @classmethod
    def merged(cls, parts: "Sequence[FeatureSummary]") -> "FeatureSummary":
        """Return the summary of the features of all ``parts``, one after the other.

        Raises:
            InputError: If there are no parts.
        """
        seen = [part for part in parts if part.statistics is not None]
        if not seen:
            raise InputError("parts must have seen at least one feature")
        whole = cls(seen[0].keep)
        whole.statistics = GaussianStatistics.merged([p.statistics for p in seen if p.statistics])
        whole._kept = [torch.cat([part.kept for part in seen])[: whole.keep]]
        return whole

    @classmethod
    def of(cls, images: Tensor, extractor: FeatureExtractor, keep: int) -> "FeatureSummary":
        """Return the summary of the features of a whole set of images."""
        summary = cls(keep)
        summary.update(extractor(images))
        return summary

    def frechet(self, other: "FeatureSummary") -> float:
        """Return the Frechet distance to ``other``.

        Raises:
            InputError: If one of them has seen less than 2 features.
        """
        if self.statistics is None or other.statistics is None:
            raise InputError("a Frechet distance needs features on both sides")
        return self.statistics.distance(other.statistics)

    def kernel(
        self, other: "FeatureSummary", *, generator: torch.Generator | None = None
    ) -> KernelDistance:
        """Return the kernel distance to ``other``, over subsets of the kept features."""
        size = min(MAX_SUBSET, len(self.kept), len(other.kept))
        return kernel_distance(self.kept, other.kept, subset_size=size, generator=generator)


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
    as many training images, drawn at random without repetition; the record says how many. For sets
    that do not fit into memory feed :class:`FeatureSummary` batch by batch.

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
    reference = FeatureSummary.of(held_out, extractor, len(held_out))
    ours = FeatureSummary.of(samples[:num], extractor, num)
    real = FeatureSummary.of(chosen, extractor, num)
    return ImageDistances(
        frechet=ours.frechet(reference),
        frechet_floor=real.frechet(reference),
        kernel=ours.kernel(reference, generator=generator),
        kernel_floor=real.kernel(reference, generator=generator),
        extractor=extractor.name,
        protocol=extractor.protocol,
        num_samples=num,
        num_reference=len(held_out),
    )
