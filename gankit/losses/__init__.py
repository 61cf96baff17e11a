"""Losses: what the discriminator and the generator minimise, as functions of logits, by name in `LOSSES`.

Every loss is elementwise: it returns one value for each logit, and the trainer takes the mean.
"""

from gankit.losses.critic import EnergyBased, Hinge, LeastSquares, Wasserstein
from gankit.losses.f_divergence import Divergence, FDivergence
from gankit.losses.goodfellow import Minimax, NonSaturating
from gankit.losses.registry import LOSSES
from gankit.losses.relativistic import (
    Relativistic,
    RelativisticAverage,
    RelativisticAverageHinge,
    RelativisticAverageLeastSquares,
)
from gankit.losses.schedule import BuiltSchedule, LossSchedule
from gankit.losses.softmax import Softmax

__all__ = [
    "LOSSES",
    "BuiltSchedule",
    "Divergence",
    "EnergyBased",
    "FDivergence",
    "Hinge",
    "LeastSquares",
    "LossSchedule",
    "Minimax",
    "NonSaturating",
    "Relativistic",
    "RelativisticAverage",
    "RelativisticAverageHinge",
    "RelativisticAverageLeastSquares",
    "Softmax",
    "Wasserstein",
]
