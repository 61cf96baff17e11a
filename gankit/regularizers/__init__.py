"""Regularizers: further terms of a network's objective, and constraints on its weights, by name in `REGULARIZERS`."""

from gankit.augmentations import AUGMENTATIONS as AUGMENTATIONS  # documented under this path before it had a module
from gankit.regularizers.clipping import WeightClipping
from gankit.regularizers.consistency import BalancedConsistency, Consistency
from gankit.regularizers.generator import FeatureMatching, LayerMatching, ModeSeeking, PathLength
from gankit.regularizers.gradient import (
    DRAGAN,
    R1,
    R1R2,
    R2,
    WassersteinGradientPenalty,
    ZeroCenteredInterpolated,
    gradient_norm,
    squared_gradient_norm,
)
from gankit.regularizers.logits import Lecam, LogitDrift
from gankit.regularizers.penalty import AveragingPenalty, Penalty
from gankit.regularizers.registry import REGULARIZERS

__all__ = [
    "DRAGAN",
    "R1",
    "R1R2",
    "R2",
    "REGULARIZERS",
    "AveragingPenalty",
    "BalancedConsistency",
    "Consistency",
    "FeatureMatching",
    "LayerMatching",
    "Lecam",
    "LogitDrift",
    "ModeSeeking",
    "PathLength",
    "Penalty",
    "WassersteinGradientPenalty",
    "WeightClipping",
    "ZeroCenteredInterpolated",
    "gradient_norm",
    "squared_gradient_norm",
]
