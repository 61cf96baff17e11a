"""Training: `AdversarialTrainer`, which knows both losses and networks, and what it does now and then."""

from gankit.training.averaging import WeightAverage
from gankit.training.callbacks import MetricsLog, PointClouds, ProgressBar, SampleGrids, TensorBoardLog
from gankit.training.trainer import AdversarialTrainer, Precision

__all__ = [
    "AdversarialTrainer",
    "MetricsLog",
    "PointClouds",
    "Precision",
    "ProgressBar",
    "SampleGrids",
    "TensorBoardLog",
    "WeightAverage",
]
