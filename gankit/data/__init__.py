"""Data sets, by name in `DATASETS`, and the batches that a trainer takes."""

from gankit.data.batches import make_batches
from gankit.data.digits import fashion_mnist, mnist, mnist_5k, mnist_test_2k
from gankit.data.digits_file import digits_file
from gankit.data.picture_folder import PictureFiles, image_folder
from gankit.data.registry import DATASETS
from gankit.data.resident import TensorBatches, TensorData
from gankit.data.sampled import Mixture, SampledBatches, Sampler
from gankit.data.stacked import StackedDigits, stacked_mnist
from gankit.data.streams import StreamBatches
from gankit.data.toy import GaussianMixture, SwissRoll, TwoMoons, grid, ring

__all__ = [
    "DATASETS",
    "GaussianMixture",
    "Mixture",
    "PictureFiles",
    "SampledBatches",
    "Sampler",
    "StackedDigits",
    "StreamBatches",
    "SwissRoll",
    "TensorBatches",
    "TensorData",
    "TwoMoons",
    "digits_file",
    "fashion_mnist",
    "grid",
    "image_folder",
    "make_batches",
    "mnist",
    "mnist_5k",
    "mnist_test_2k",
    "ring",
    "stacked_mnist",
]
