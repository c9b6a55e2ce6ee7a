"""Data sets, the codecs that map them to what a model sees, sources and loaders."""

from flowgen.data.arrays import ArraySplit, ImageData
from flowgen.data.codecs import Identity, Pixels, Standardize
from flowgen.data.digits import Digits
from flowgen.data.emoji import EmojiData
from flowgen.data.fashion_mnist import FashionMNIST
from flowgen.data.image_folder import ImageFolder
from flowgen.data.loading import Batches, EpochSampler, loader, stream
from flowgen.data.mixtures import EightGaussians, Mixture
from flowgen.data.mnist5k import MNIST5k
from flowgen.data.points import PointData
from flowgen.data.protocol import Batch, Codec, DataSet, Split
from flowgen.data.sources import Gaussian
from flowgen.data.splits import stratified_split
from flowgen.data.toy import Checkerboard, Moons, Pinwheel, SCurve, SwissRoll
from flowgen.data.whole import whole

__all__ = [
    "ArraySplit",
    "Batch",
    "Batches",
    "Checkerboard",
    "Codec",
    "DataSet",
    "Digits",
    "EightGaussians",
    "EpochSampler",
    "EmojiData",
    "FashionMNIST",
    "Gaussian",
    "Identity",
    "ImageData",
    "ImageFolder",
    "MNIST5k",
    "Mixture",
    "Moons",
    "Pinwheel",
    "Pixels",
    "PointData",
    "SCurve",
    "Split",
    "Standardize",
    "SwissRoll",
    "loader",
    "stratified_split",
    "stream",
    "whole",
]
