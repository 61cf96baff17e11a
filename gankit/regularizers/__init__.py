"""Regularizers: one more term of a network's objective, or a constraint after its update, in `REGULARIZERS`.

`consistency` and its kin take an augmentation by name, from `AUGMENTATIONS`.
"""

from gankit.regularizers.augmentations import AUGMENTATIONS, Augmentation, HorizontalFlip, Translation
from gankit.regularizers.clipping import WeightClipping
from gankit.regularizers.consistency import BalancedConsistency, Consistency
from gankit.regularizers.generator import FeatureMatching, ModeSeeking, PathLength
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
from gankit.regularizers.registry import REGULARIZERS

__all__ = [
    "AUGMENTATIONS",
    "DRAGAN",
    "R1",
    "R1R2",
    "R2",
    "REGULARIZERS",
    "Augmentation",
    "BalancedConsistency",
    "Consistency",
    "FeatureMatching",
    "HorizontalFlip",
    "Lecam",
    "LogitDrift",
    "ModeSeeking",
    "PathLength",
    "Translation",
    "WassersteinGradientPenalty",
    "WeightClipping",
    "ZeroCenteredInterpolated",
    "gradient_norm",
    "squared_gradient_norm",
]
