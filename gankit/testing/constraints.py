"""The check of a constraint; `check_regularizer` comes here for one."""

from __future__ import annotations

import copy

from torch import nn

from gankit.protocols import Constraint, Regularizer
from gankit.testing.half_step import SmallDiscriminator
from gankit.testing.host_reads import HostReads
from gankit.testing.isolation import global_random_state, same_random_state
from gankit.testing.rules import Rules, Subject, Violation, title_of


class ConstraintSubject(Subject):
    """A constraint, and the network that it changes."""

    def __init__(self, part: Constraint) -> None:
        super().__init__(title_of(part))
        self.part = part

    def __call__(self) -> tuple[SmallDiscriminator, dict[str, nn.Parameter]]:
        """Return the network after `apply`, and the parameters that it had before."""
        network = SmallDiscriminator(8, conditional=False)
        before = dict(network.named_parameters())
        self.doing = "apply, on a network whose parameters require a gradient,"
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
    return None if type(every) is int and every >= 1 else f"every is {every!r}, not a whole number of 1 or more"


@RULES.rule("protocol", "an every that is no whole number, or a class instead of an object")
def _protocol_violation(subject: ConstraintSubject) -> Violation:
    return "it is a class, not an object" if isinstance(subject.part, type) else every_violation(subject.part)


@RULES.rule("no-graph", "a missing @torch.no_grad() on apply")
def _graph_violation(subject: ConstraintSubject) -> Violation:
    network, _ = subject()
    for key, parameter in network.named_parameters():
        if not parameter.is_leaf or not parameter.requires_grad or parameter.grad is not None:
            return f"after apply, parameter {key} is not a leaf that requires a gradient and has no .grad"
    return None


@RULES.rule("in-place", "an assignment of a new parameter; the optimizer holds the old one")
def _in_place_violation(subject: ConstraintSubject) -> Violation:
    network, before = subject()
    for key, parameter in network.named_parameters():
        if parameter is not before.get(key):
            return f"after apply, parameter {key} is another object"
    return None


@RULES.rule("no-global-random", "torch.rand and the like, which draw from the caller's global generator")
def _global_random_violation(subject: ConstraintSubject) -> Violation:
    before = global_random_state()
    subject()
    return None if same_random_state(before, global_random_state()) else "apply changes the global random state"


@RULES.rule("no-host-reads", "an .item(), float(), bool() or an `if` on a tensor, for which a GPU has to wait")
def _host_read_violation(subject: ConstraintSubject) -> Violation:
    with HostReads() as reads:
        subject()
    return f"apply reads {reads.count} values on the host" if reads.count else None
