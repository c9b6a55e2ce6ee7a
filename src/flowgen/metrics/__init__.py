"""Metrics on tensors: transport distances, paths, image distances, label accuracy."""

from flowgen.metrics.classifier import Classifier, LabelAccuracy, LabelClassifier
from flowgen.metrics.discrepancy import energy_distance, median_distance, rbf_mmd
from flowgen.metrics.features import (
    EfficientNetLite0Features,
    FeatureExtractor,
    PixelFeatures,
)
from flowgen.metrics.frechet import GaussianStatistics, frechet_distance
from flowgen.metrics.image_distances import FeatureSummary, ImageDistances, image_distances
from flowgen.metrics.inception import InceptionFeatures
from flowgen.metrics.kernel import KernelDistance, kernel_distance
from flowgen.metrics.label_probe import LabelProbe, label_probe
from flowgen.metrics.lpips import LPIPS, PerceptualNetwork
from flowgen.metrics.map_cost import MapCost, map_cost
from flowgen.metrics.neighbours import NeighbourStatistics, neighbour_statistics
from flowgen.metrics.paired import psnr, rmse, ssim
from flowgen.metrics.path_metrics import PathStatistics, path_statistics
from flowgen.metrics.transport import Wasserstein, exact_w2, sliced_w2

__all__ = [
    "LPIPS",
    "Classifier",
    "EfficientNetLite0Features",
    "FeatureExtractor",
    "FeatureSummary",
    "GaussianStatistics",
    "ImageDistances",
    "InceptionFeatures",
    "KernelDistance",
    "LabelAccuracy",
    "LabelClassifier",
    "LabelProbe",
    "NeighbourStatistics",
    "PathStatistics",
    "PerceptualNetwork",
    "PixelFeatures",
    "Wasserstein",
    "energy_distance",
    "exact_w2",
    "MapCost",
    "frechet_distance",
    "map_cost",
    "image_distances",
    "kernel_distance",
    "label_probe",
    "median_distance",
    "neighbour_statistics",
    "path_statistics",
    "psnr",
    "rbf_mmd",
    "rmse",
    "sliced_w2",
    "ssim",
]
