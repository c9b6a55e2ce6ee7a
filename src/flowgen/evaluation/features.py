"""Features of samples and of real images, computed once for all measures that use them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from flowgen.core import InputError
from flowgen.data import Split
from flowgen.evaluation.extractors import extractor_for
from flowgen.evaluation.setting import Drawn, Setting
from flowgen.metrics import FeatureExtractor, FeatureSummary

NOT_IMAGES = "the data are not images"


@dataclass(frozen=True)
class FeatureSettings:
    """Which features, of how many images.

    Args:
        extractor: ``auto``, or the name of an extractor.
        inception_weights: File for ``extractor=inception``.
        max_reference: Most real images of each split whose features are computed, >= 2.
        keep: Most features of a side that are kept for metrics of single points, >= 2.

    Raises:
        InputError: If a number is too small.
    """

    extractor: str = "auto"
    inception_weights: str | Path | None = None
    max_reference: int = 5000
    keep: int = 10_000

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("max_reference", "keep"):
            if getattr(self, name) < 2:
                raise InputError(f"{name} must be >= 2, got {getattr(self, name)}")


class Features:
    """Features in one setting: of samples as they come, and of the real images beside them.

    The floor compares as many training images as samples are used with the held-out ones; where
    there are less training images than samples, the first samples are used.

    Args:
        settings: Which features, of how many images.
        setting: The evaluation.

    Attributes:
        extractor: The extractor.
        num_samples: Samples that are used, and training images of the floor.
    """

    def __init__(self, settings: FeatureSettings, setting: Setting) -> None:
        self.settings = settings
        self.setting = setting
        self.extractor: FeatureExtractor = setting.remembered(
            ("extractor", settings.extractor, str(settings.inception_weights)),
            lambda: extractor_for(
                settings.extractor, setting.pipeline.device, settings.inception_weights
            ),
        )
        split = setting.data.train
        self.num_samples = min(setting.num_samples, len(split), settings.max_reference)
        self.held_out = self._real("held out", setting.data.test, settings.max_reference)
        self.training = self._real("training", split, self.num_samples)
        self._own = FeatureSummary(settings.keep)

    def update(self, drawn: Drawn) -> None:
        """Take in the features of samples, computed once for all measures."""
        used = max(0, min(len(drawn.samples), self.num_samples - drawn.numbers.start))
        if used == 0:
            return
        features: Tensor = drawn.remembered(
            ("features", self.extractor.name, used), lambda: self._of(drawn.samples[:used])
        )
        self._own.update(features)

    def samples(self) -> FeatureSummary:
        """Return the summary of the samples of all processes."""
        return FeatureSummary.merged(self.setting.shards.gather(self._own))

    def _of(self, images: Tensor) -> Tensor:
        return self.extractor(images)

    def _real(self, name: str, split: Split, most: int) -> FeatureSummary:
        keep = self.settings.keep

        def make() -> FeatureSummary:
            images = self.setting.real(split, most)["x_1"]
            summary = FeatureSummary(keep)
            share = self.setting.shards.share(len(images))
            work: Callable[[range], Tensor] = lambda part: self._of(images[part.start : part.stop])  # noqa: E731
            for features in self.setting.chunks.over(share, work):
                summary.update(features)
            return FeatureSummary.merged(self.setting.shards.gather(summary))

        return self.setting.remembered((name, self.extractor.name, most, keep), make)
