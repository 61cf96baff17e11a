"""Checks for your own parts: one line in a test checks a loss, a regularizer, a block or a network.

Each check raises `ConformanceError` for the first broken rule, with the name of the rule, the input that broke it and
the usual cause. Checks leave the part, the global random state and the gradient mode unchanged.
"""

from collections.abc import Mapping

from gankit.errors import ConformanceError
from gankit.testing import constraints, halves, losses, networks, regularizers, weights
from gankit.testing.halves import check_halves
from gankit.testing.losses import check_loss
from gankit.testing.networks import check_block, check_discriminator, check_generator
from gankit.testing.regularizers import check_regularizer
from gankit.testing.weights import check_weight

RULES: Mapping[str, Mapping[str, str]] = {
    "loss": losses.RULES.causes,
    "regularizer": regularizers.RULES.causes,
    "constraint": constraints.RULES.causes,
    "halves": halves.RULES.causes,
    "weight": weights.RULES.causes,
    **{kind: rules.causes for kind, rules in networks.RULES.items()},
}
"""For each kind of part, the usual cause of each failure by the name of the rule, in the order of the checks."""

__all__ = [
    "RULES",
    "ConformanceError",
    "check_block",
    "check_discriminator",
    "check_generator",
    "check_halves",
    "check_loss",
    "check_regularizer",
    "check_weight",
]
