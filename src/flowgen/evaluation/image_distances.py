"""Measure: Frechet and kernel distance of samples to held-out images."""

from pathlib import Path

from flowgen.core import generator_for
from flowgen.evaluation.features import NOT_IMAGES, Features, FeatureSettings
from flowgen.evaluation.measure import Figures, Running
from flowgen.evaluation.setting import Drawn, Setting


class ImageDistance:
    """Frechet and kernel distance to held-out images, with the floors that training images reach.

    Arguments are those of :class:`flowgen.evaluation.FeatureSettings`.
    """

    name = "distance to held-out images"
    needs_samples = True

    def __init__(
        self,
        extractor: str = "auto",
        inception_weights: str | Path | None = None,
        max_reference: int = 5000,
        keep: int = 10_000,
    ) -> None:
        self.settings = FeatureSettings(extractor, inception_weights, max_reference, keep)

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here, empty if it can."""
        return "" if setting.images else NOT_IMAGES

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work, the real images done."""
        return _Running(Features(self.settings, setting), setting.seed)


class _Running:
    def __init__(self, features: Features, seed: int) -> None:
        self.features = features
        self.seed = seed

    def update(self, drawn: Drawn) -> None:
        self.features.update(drawn)

    def figures(self) -> Figures:
        features, name = self.features, self.features.extractor.name
        samples = features.samples()
        generator = generator_for(self.seed)
        distance = samples.kernel(features.held_out, generator=generator)
        floor = features.training.kernel(features.held_out, generator=generator)
        return {
            f"fd_{name}": samples.frechet(features.held_out),
            f"fd_{name}_floor": features.setting.remembered(
                ("floor", name, features.num_samples, features.held_out.count),
                lambda: features.training.frechet(features.held_out),
            ),
            f"kd_{name}": distance.mean,
            f"kd_{name}_floor": floor.mean,
            "samples": samples.count,
            "held-out images": features.held_out.count,
            "features": features.extractor.protocol,
        }
