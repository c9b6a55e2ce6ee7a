"""What is measured of a checkpoint, by the kind of its data. One function for each measure.

Every distance stands beside the floor that real data of the same size reach, and says its sizes.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from flowgen.core import InputError, generator_for
from flowgen.data import Batch, DataSet, Split
from flowgen.integrators import Heun, Uniform, trajectory
from flowgen.metrics import (
    EfficientNetLite0Features,
    FeatureExtractor,
    LabelClassifier,
    PathStatistics,
    PixelFeatures,
    exact_w2,
    image_distances,
    path_statistics,
    sliced_w2,
)
from flowgen.pipeline import Pipeline

MAX_EXACT = 2000
"""Most points of an exact optimal-transport distance; its time grows as the cube."""

MAX_REFERENCE = 5000
"""Most real images whose features are computed."""

CHUNK = 256
"""Trajectories integrated at once for the path measures."""


@dataclass(frozen=True)
class Evaluation:
    """What the measures share: the pipeline, the data, and samples drawn once.

    Args:
        pipeline: What is evaluated.
        data: What it is compared with.
        num_samples: Samples to draw.
        seed: Of the samples, and of random choices of a measure.
        chunk: Samples integrated at once.
        extractor: ``auto``, or the name of an extractor.
        path_steps: Steps of the fine grid of the path measures.
        path_samples: Trajectories of the path measures.

    Raises:
        InputError: If a number is too small.
    """

    pipeline: Pipeline
    data: DataSet
    num_samples: int
    seed: int
    chunk: int
    extractor: str
    path_steps: int
    path_samples: int

    def __post_init__(self) -> None:
        """Check the numbers before anything is drawn."""
        for name, least in (("num_samples", 2), ("path_steps", 1), ("path_samples", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be >= {least}, got {getattr(self, name)}")
        if len(self.data.test) < 2:
            raise InputError(f"{self.data.name} holds out less than 2 samples: nothing to compare")

    @cached_property
    def samples(self) -> Tensor:
        """Samples in data space."""
        return self.pipeline.sample(self.num_samples, seed=self.seed, chunk=self.chunk)

    @cached_property
    def labels(self) -> Tensor | None:
        """Their labels."""
        return self.pipeline.labels(self.num_samples)

    def real(self, split: Split, most: int) -> Batch:
        """Return up to ``most`` rows of a split, drawn without repetition."""
        order = torch.randperm(len(split), generator=generator_for(self.seed, len(split)))
        return split.__getitems__(order[:most].sort().values.tolist())


def measures_for(evaluation: Evaluation) -> dict[str, Callable[[Evaluation], dict[str, Any]]]:
    """Return the measures that fit the data, by name."""
    images = evaluation.samples.dtype == torch.uint8
    measures: dict[str, Callable[[Evaluation], dict[str, Any]]] = {}
    if images:
        measures["distance to held-out images"] = distances
        if evaluation.labels is not None and (evaluation.data.num_classes or 0) > 1:
            measures["labels"] = labels
    else:
        measures["distance to held-out points"] = transport
    measures["paths"] = paths
    return measures


def distances(evaluation: Evaluation) -> dict[str, Any]:
    """Return Frechet and kernel distances to held-out images, with their floors."""
    held_out = evaluation.real(evaluation.data.test, MAX_REFERENCE)["x_1"]
    training = evaluation.real(evaluation.data.train, MAX_REFERENCE)["x_1"]
    result = image_distances(
        evaluation.samples,
        held_out,
        training,
        extractor_for(evaluation.extractor, evaluation.pipeline.device),
        generator=generator_for(evaluation.seed),
    )
    return result.values() | {
        "samples": result.num_samples,
        "held-out images": result.num_reference,
        "features": result.protocol,
    }


def labels(evaluation: Evaluation) -> dict[str, Any]:
    """Return how often a classifier of real images sees the label a sample was drawn with."""
    assert evaluation.labels is not None
    training = evaluation.real(evaluation.data.train, len(evaluation.data.train))
    held_out = evaluation.real(evaluation.data.test, MAX_REFERENCE)
    classifier = LabelClassifier(training["x_1"], training["label"], seed=evaluation.seed)
    result = classifier.report(
        evaluation.samples, evaluation.labels, held_out["x_1"], held_out["label"]
    )
    return {
        "accuracy": result.samples,
        "accuracy_on_held_out_images": result.held_out,
        "samples": result.num_samples,
        "classifier": f"{result.classifier}, fitted to {result.num_training} training images",
    }


def transport(evaluation: Evaluation) -> dict[str, Any]:
    """Return exact and sliced W2 to held-out points, with their floors."""
    size = min(MAX_EXACT, evaluation.num_samples, len(evaluation.data.test))
    held_out = evaluation.real(evaluation.data.test, size)["x_1"]
    training = evaluation.real(evaluation.data.train, size)["x_1"]
    size = min(len(held_out), len(training))
    held_out, training, samples = held_out[:size], training[:size], evaluation.samples[:size]
    figures: dict[str, Any] = {}
    for name, points in (("", samples), ("_floor", training)):
        exact = exact_w2(points, held_out)
        generator = generator_for(evaluation.seed)
        figures[f"w2{name}"] = exact.w2
        figures[f"w2_squared{name}"] = exact.w2_squared
        figures[f"sliced_w2{name}"] = sliced_w2(points, held_out, generator=generator).w2
    return figures | {"points": size}


@torch.inference_mode()
def paths(evaluation: Evaluation) -> dict[str, Any]:
    """Return energy, length and straightness of the trajectories, in model space.

    For points also the normalised path energy, whose reference ``W2^2`` is that of as many source
    and data points; in many dimensions that estimate is too biased to divide by.
    """
    pipeline = evaluation.pipeline
    field = pipeline.velocity()
    sampler = pipeline.sampler
    fine = type(sampler)(Heun(), Uniform(), evaluation.path_steps)
    nodes = fine.grid_for(field)
    all_labels = pipeline.labels(evaluation.path_samples)
    parts, starts, ends = [], [], []
    pipeline.field.eval()
    for first in range(0, evaluation.path_samples, CHUNK):
        numbers = range(first, min(first + CHUNK, evaluation.path_samples))
        x_0 = pipeline.noise(evaluation.seed, numbers) * pipeline.initial_scale
        cond = None
        if all_labels is not None:
            cond = {"label": all_labels[first : numbers.stop].to(pipeline.device)}
        states = trajectory(Heun(), field, x_0, nodes, cond)
        parts.append(path_statistics(field, states, nodes, cond))
        starts.append(states[0])
        ends.append(states[-1])
    result = PathStatistics.merged(parts)
    figures = asdict(result)
    if evaluation.samples.dtype != torch.uint8:
        count = min(evaluation.path_samples, MAX_EXACT)
        real = evaluation.real(evaluation.data.train, count)["x_1"]
        count = min(count, len(real))
        source = torch.cat(starts)[:count]
        target = pipeline.codec.encode(real[:count])
        figures["npe"] = result.npe(exact_w2(source, target).w2_squared)
        own = exact_w2(source, torch.cat(ends)[:count]).w2_squared
        figures["energy_over_w2_squared_to_samples"] = result.energy_ratio(own)
    return figures | {"grid": f"heun, {len(nodes) - 1} steps"}


def extractor_for(name: str, device: torch.device) -> FeatureExtractor:
    """Return the feature extractor of a name; ``auto`` is EfficientNet-Lite0.

    Raises:
        InputError: If the name is unknown, or its package is not installed.
    """
    extractors: dict[str, Callable[[], FeatureExtractor]] = {
        "auto": lambda: EfficientNetLite0Features(device=device),
        EfficientNetLite0Features.name: lambda: EfficientNetLite0Features(device=device),
        PixelFeatures.name: PixelFeatures,
    }
    if name not in extractors:
        raise InputError(f"extractor must be one of {', '.join(extractors)}, got '{name}'")
    return extractors[name]()
