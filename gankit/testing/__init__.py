"""Checks that a part behaves, for anybody's tests: one line for a loss, a penalty, a block or a network.

Each check raises `ConformanceError` for the first rule that is broken, with the rule's name, the input that broke
it and the usual cause. Checks leave the part, the global random state and the gradient mode as they were.
"""

from collections.abc import Mapping

from gankit.errors import ConformanceError
from gankit.testing import constraints, losses, networks, regularizers
from gankit.testing.losses import check_loss
from gankit.testing.networks import check_block, check_discriminator, check_generator
from gankit.testing.regularizers import check_regularizer

RULES: Mapping[str, Mapping[str, str]] = {
    "loss": losses.RULES.causes,
    "regularizer": regularizers.RULES.causes,
    "constraint": constraints.RULES.causes,
    **{kind: rules.causes for kind, rules in networks.RULES.items()},
}
"""The rules of each kind of part, by name, in the order in which they are checked, with what usually breaks each."""

__all__ = [
    "RULES",
    "ConformanceError",
    "check_block",
    "check_discriminator",
    "check_generator",
    "check_loss",
    "check_regularizer",
]
