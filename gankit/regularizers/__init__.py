"""Regularizers: one more term of a network's objective, or a constraint after its update, in `REGULARIZERS`."""

from gankit.regularizers.clipping import WeightClipping
from gankit.regularizers.gradient import R1
from gankit.regularizers.registry import REGULARIZERS

__all__ = ["R1", "REGULARIZERS", "WeightClipping"]
