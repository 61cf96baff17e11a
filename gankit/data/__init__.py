"""Data: where real samples come from, by name in `DATASETS`, and how they become batches."""

from gankit.data.batches import make_batches
from gankit.data.digits import fashion_mnist, mnist, mnist_5k
from gankit.data.folder import image_folder
from gankit.data.registry import DATASETS
from gankit.data.resident import TensorBatches, TensorData
from gankit.data.streams import StreamBatches

__all__ = [
    "DATASETS",
    "StreamBatches",
    "TensorBatches",
    "TensorData",
    "fashion_mnist",
    "image_folder",
    "make_batches",
    "mnist",
    "mnist_5k",
]
