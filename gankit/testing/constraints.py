"""The check of a constraint, which `check_regularizer` runs when it is given one."""

from __future__ import annotations

import copy

from torch import nn

from gankit.protocols import Constraint, Regularizer
from gankit.testing.half_step import SmallDiscriminator
from gankit.testing.host_reads import count_host_reads
from gankit.testing.isolation import changes_global_random_state
from gankit.testing.rules import GLOBAL_RANDOM_CAUSE, HOST_READ_CAUSE, Rules, Subject, Violation, title_of


class ConstraintSubject(Subject):
    """A constraint and the network to which it is applied.

    Args:
        part: The constraint.
    """

    def __init__(self, part: Constraint) -> None:
        super().__init__(title_of(part))
        self.part = part

    def __call__(self) -> tuple[SmallDiscriminator, dict[str, nn.Parameter]]:
        """Apply the constraint to a new network; return the network and the parameters that it had before."""
        network = SmallDiscriminator(8, conditional=False)
        before = dict(network.named_parameters())
        self.current_call = "apply, on a network whose parameters require a gradient,"
        copy.deepcopy(self.part).apply(network)
        return network, before


RULES = Rules[ConstraintSubject]("check_regularizer")


def every_violation(part: Regularizer | Constraint) -> Violation:
    """Return what is wrong with a part's `every`, or None.

    Example:
        >>> from gankit.regularizers import WeightClipping
        >>> every_violation(WeightClipping(every=2)) is None
        True
    """
    every: object = part.every
    return None if type(every) is int and every >= 1 else f"every is {every!r}, not an integer of 1 or more"


@RULES.rule("protocol", "an every that is not an integer, or a class instead of an object")
def _protocol_violation(subject: ConstraintSubject) -> Violation:
    return "it is a class, not an object" if isinstance(subject.part, type) else every_violation(subject.part)


@RULES.rule("no-graph", "a missing @torch.no_grad() on apply")
def _graph_violation(subject: ConstraintSubject) -> Violation:
    network, _ = subject()
    for key, parameter in network.named_parameters():
        if not parameter.is_leaf:
            return f"after apply, parameter {key} is not a leaf"
        if not parameter.requires_grad:
            return f"after apply, parameter {key} requires no gradient"
        if parameter.grad is not None:
            return f"after apply, parameter {key} has a .grad"
    return None


@RULES.rule("in-place", "a new parameter in place of the old one, which the optimizer still holds")
def _in_place_violation(subject: ConstraintSubject) -> Violation:
    network, before = subject()
    for key, parameter in network.named_parameters():
        if parameter is not before.get(key):
            return f"after apply, parameter {key} is a different object"
    return None


@RULES.rule("no-global-random", GLOBAL_RANDOM_CAUSE)
def _global_random_violation(subject: ConstraintSubject) -> Violation:
    return "apply changes the global random state" if changes_global_random_state(subject) else None


@RULES.rule("no-host-reads", HOST_READ_CAUSE)
def _host_read_violation(subject: ConstraintSubject) -> Violation:
    count = count_host_reads(subject)
    return f"apply reads {count} values on the host" if count else None
