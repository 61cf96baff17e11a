"""Training: `AdversarialTrainer`, which knows both losses and networks, and what it does now and then."""

from gankit.training.averaging import WeightAverage
from gankit.training.callbacks import MetricsLog, PointClouds, ProgressBar, SampleGrids, TensorBoardLog
from gankit.training.checkpoint import Checkpoint, Checkpointer, load_checkpoint, load_newest
from gankit.training.execution import EXECUTIONS, Execution, Explanation
from gankit.training.stacked import Stacked
from gankit.training.trainer import AdversarialTrainer, Precision

__all__ = [
    "EXECUTIONS",
    "AdversarialTrainer",
    "Checkpoint",
    "Checkpointer",
    "Execution",
    "Explanation",
    "MetricsLog",
    "PointClouds",
    "Precision",
    "ProgressBar",
    "SampleGrids",
    "Stacked",
    "TensorBoardLog",
    "WeightAverage",
    "load_checkpoint",
    "load_newest",
]
