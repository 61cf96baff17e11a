"""Training: `AdversarialTrainer`, which knows both losses and networks, and what it does now and then."""

from gankit.training.callbacks import MetricsLog, PointClouds, ProgressBar, SampleGrids, TensorBoardLog
from gankit.training.checkpoint import Checkpoint, Checkpointer, load_checkpoint, load_newest
from gankit.training.execution.executor import Explanation
from gankit.training.parallel.batch_norm import SynchronizedBatchNorm, synchronize_batch_norm
from gankit.training.parallel.launch import Launch
from gankit.training.parallel.ranks import Ranks
from gankit.training.parallel.replicas import Stacked
from gankit.training.step.averaging import WeightAverage
from gankit.training.step.options import (
    EXECUTIONS,
    ON_NON_FINITE,
    PRECISIONS,
    Execution,
    OnNonFinite,
    Options,
    Precision,
)
from gankit.training.trainer import AdversarialTrainer

__all__ = [
    "EXECUTIONS",
    "ON_NON_FINITE",
    "PRECISIONS",
    "AdversarialTrainer",
    "Checkpoint",
    "Checkpointer",
    "Execution",
    "Explanation",
    "Launch",
    "MetricsLog",
    "OnNonFinite",
    "Options",
    "PointClouds",
    "Precision",
    "ProgressBar",
    "Ranks",
    "SampleGrids",
    "Stacked",
    "SynchronizedBatchNorm",
    "TensorBoardLog",
    "WeightAverage",
    "load_checkpoint",
    "load_newest",
    "synchronize_batch_norm",
]
