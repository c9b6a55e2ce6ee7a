"""Data sets, the codecs that map them to what a model sees, sources and loaders."""

from flowgen.data.arrays import ArraySplit, ImageData
from flowgen.data.autoencoder import built, decoded, encoded, read_autoencoder
from flowgen.data.cells import CellData
from flowgen.data.codecs import Identity, Pixels, Standardize
from flowgen.data.data_source import DataSource
from flowgen.data.digits import Digits
from flowgen.data.emoji import EmojiData
from flowgen.data.encoding import SCALINGS, write_latents
from flowgen.data.fashion_mnist import FashionMNIST
from flowgen.data.hugging_face import HuggingFace
from flowgen.data.image_folder import ImageFolder
from flowgen.data.labelled_images import LabelledImages
from flowgen.data.latent_codec import LatentCodec
from flowgen.data.latents import Header, LatentData
from flowgen.data.loading import loader, stream
from flowgen.data.mixtures import EightGaussians, Mixture
from flowgen.data.mnist5k import MNIST5k
from flowgen.data.order import Batches, EpochSampler
from flowgen.data.points import PointData
from flowgen.data.protocol import Batch, Codec, DataSet, Split, learnt_from
from flowgen.data.sources import Gaussian
from flowgen.data.splits import stratified_split
from flowgen.data.toy import Checkerboard, Moons, Pinwheel, SCurve, SwissRoll
from flowgen.data.webdataset import WebDataset
from flowgen.data.whole import whole

__all__ = [
    "SCALINGS",
    "ArraySplit",
    "Batch",
    "Batches",
    "Checkerboard",
    "Codec",
    "CellData",
    "DataSet",
    "DataSource",
    "Digits",
    "EightGaussians",
    "EpochSampler",
    "EmojiData",
    "FashionMNIST",
    "Gaussian",
    "Header",
    "HuggingFace",
    "Identity",
    "ImageData",
    "ImageFolder",
    "LabelledImages",
    "LatentCodec",
    "LatentData",
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
    "WebDataset",
    "learnt_from",
    "built",
    "decoded",
    "encoded",
    "loader",
    "read_autoencoder",
    "stratified_split",
    "stream",
    "whole",
    "write_latents",
]
