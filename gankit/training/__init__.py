"""Training: `AdversarialTrainer`, its options, callbacks and checkpoints, replicas, and several processes.

Names are imported when they are first used, so that the files below the trainer can be used without it.
"""

from typing import TYPE_CHECKING

from gankit._lazy import lazy_names

if TYPE_CHECKING:
    from gankit.training.callbacks import MetricsLog, PointClouds, ProgressBar, SampleGrids, TensorBoardLog
    from gankit.training.evaluation import Evaluate, score_generator
    from gankit.training.execution.executor import Explanation
    from gankit.training.parallel.batch_norm import SynchronizedBatchNorm, synchronize_batch_norm
    from gankit.training.parallel.launch import Launch
    from gankit.training.parallel.ranks import Ranks
    from gankit.training.parallel.replicas import Stacked
    from gankit.training.saving.checkpoint import Checkpoint
    from gankit.training.saving.checkpointer import Checkpointer
    from gankit.training.saving.folder import load_checkpoint, load_newest
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
else:  # hidden from type checkers, which would take any name for an attribute of a module with `__getattr__`
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "EXECUTIONS": "gankit.training.step.options:EXECUTIONS",
            "ON_NON_FINITE": "gankit.training.step.options:ON_NON_FINITE",
            "PRECISIONS": "gankit.training.step.options:PRECISIONS",
            "AdversarialTrainer": "gankit.training.trainer:AdversarialTrainer",
            "Checkpoint": "gankit.training.saving.checkpoint:Checkpoint",
            "Checkpointer": "gankit.training.saving.checkpointer:Checkpointer",
            "Evaluate": "gankit.training.evaluation:Evaluate",
            "Execution": "gankit.training.step.options:Execution",
            "Explanation": "gankit.training.execution.executor:Explanation",
            "Launch": "gankit.training.parallel.launch:Launch",
            "MetricsLog": "gankit.training.callbacks:MetricsLog",
            "OnNonFinite": "gankit.training.step.options:OnNonFinite",
            "Options": "gankit.training.step.options:Options",
            "PointClouds": "gankit.training.callbacks:PointClouds",
            "Precision": "gankit.training.step.options:Precision",
            "ProgressBar": "gankit.training.callbacks:ProgressBar",
            "Ranks": "gankit.training.parallel.ranks:Ranks",
            "SampleGrids": "gankit.training.callbacks:SampleGrids",
            "Stacked": "gankit.training.parallel.replicas:Stacked",
            "SynchronizedBatchNorm": "gankit.training.parallel.batch_norm:SynchronizedBatchNorm",
            "TensorBoardLog": "gankit.training.callbacks:TensorBoardLog",
            "WeightAverage": "gankit.training.step.averaging:WeightAverage",
            "load_checkpoint": "gankit.training.saving.folder:load_checkpoint",
            "load_newest": "gankit.training.saving.folder:load_newest",
            "score_generator": "gankit.training.evaluation:score_generator",
            "synchronize_batch_norm": "gankit.training.parallel.batch_norm:synchronize_batch_norm",
        },
    )

__all__ = [
    "EXECUTIONS",
    "ON_NON_FINITE",
    "PRECISIONS",
    "AdversarialTrainer",
    "Checkpoint",
    "Checkpointer",
    "Evaluate",
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
    "score_generator",
    "synchronize_batch_norm",
]
