"""Losses: what discriminator and generator minimise, on logits, by name in `LOSSES`.

Every loss is elementwise: `(..., N)` in, `(..., N)` out; whoever trains reduces.
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
