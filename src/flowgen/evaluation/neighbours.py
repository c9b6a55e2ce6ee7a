"""Measure: precision, recall, density and coverage of images."""

from dataclasses import asdict
from pathlib import Path

from flowgen.core import InputError
from flowgen.evaluation.features import NOT_IMAGES, Features, FeatureSettings
from flowgen.evaluation.measure import Figures, Running
from flowgen.evaluation.setting import Drawn, Setting
from flowgen.metrics import neighbour_statistics


class Neighbours:
    """Precision, recall, density and coverage against held-out images, beside training images.

    Args:
        extractor: As in :class:`flowgen.evaluation.FeatureSettings`, like the next three.
        inception_weights: File for ``extractor=inception``.
        max_reference: Most real images of each split.
        keep: Most features of a side.
        k_support: Neighbour that sets the radius for precision and recall, >= 1.
        k_density: Neighbour that sets it for density and coverage, >= 1.

    Raises:
        InputError: If a number is too small.
    """

    name = "fidelity and diversity"
    needs_samples = True

    def __init__(
        self,
        extractor: str = "auto",
        inception_weights: str | Path | None = None,
        max_reference: int = 5000,
        keep: int = 10_000,
        k_support: int = 3,
        k_density: int = 5,
    ) -> None:
        for name, value in (("k_support", k_support), ("k_density", k_density)):
            if value < 1:
                raise InputError(f"{name} must be >= 1, got {value}")
        self.settings = FeatureSettings(extractor, inception_weights, max_reference, keep)
        self.k_support = k_support
        self.k_density = k_density

    def unfit(self, setting: Setting) -> str:
        """Return why it cannot be measured here, empty if it can."""
        if not setting.images:
            return NOT_IMAGES
        limits = self.settings.max_reference, self.settings.keep, setting.num_samples
        size = min(*limits, len(setting.data.train), len(setting.data.test))
        least = max(self.k_support, self.k_density) + 1
        return "" if size >= least else f"it needs {least} images or more on each side, got {size}"

    def begin(self, setting: Setting) -> Running:
        """Return the measure at work, the real images done."""
        return _Running(Features(self.settings, setting), self)


class _Running:
    def __init__(self, features: Features, measure: Neighbours) -> None:
        self.features = features
        self.measure = measure

    def update(self, drawn: Drawn) -> None:
        self.features.update(drawn)

    def figures(self) -> Figures:
        features = self.features
        sides = features.samples().kept, features.training.kept, features.held_out.kept
        size = min(len(side) for side in sides)
        samples, training, held_out = (side[:size] for side in sides)
        k = {"k_support": self.measure.k_support, "k_density": self.measure.k_density}
        figures: Figures = asdict(neighbour_statistics(samples, held_out, **k))
        floors = asdict(neighbour_statistics(training, held_out, **k))
        figures |= {f"{name}_floor": value for name, value in floors.items()}
        return figures | {"images of each side": size, **k, "extractor": features.extractor.name}
