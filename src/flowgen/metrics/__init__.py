"""Metrics on tensors: transport distances, paths, image distances, label accuracy."""

from flowgen.metrics.classifier import Classifier, LabelAccuracy, LabelClassifier
from flowgen.metrics.features import (
    EfficientNetLite0Features,
    FeatureExtractor,
    PixelFeatures,
)
from flowgen.metrics.frechet import GaussianStatistics, frechet_distance
from flowgen.metrics.image_distances import ImageDistances, image_distances
from flowgen.metrics.kernel import KernelDistance, kernel_distance
from flowgen.metrics.path_metrics import PathStatistics, path_statistics
from flowgen.metrics.transport import Wasserstein, exact_w2, sliced_w2

__all__ = [
    "Classifier",
    "EfficientNetLite0Features",
    "FeatureExtractor",
    "GaussianStatistics",
    "ImageDistances",
    "KernelDistance",
    "LabelAccuracy",
    "LabelClassifier",
    "PathStatistics",
    "PixelFeatures",
    "Wasserstein",
    "exact_w2",
    "frechet_distance",
    "image_distances",
    "kernel_distance",
    "path_statistics",
    "sliced_w2",
]
