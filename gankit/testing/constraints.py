"""The check of a constraint; `check_regularizer` comes here for one."""

from __future__ import annotations

import copy

from torch import nn

from gankit.protocols import Constraint, Regularizer
from gankit.testing._scenes import Critic
from gankit.testing.common import (
    HostReads,
    Offence,
    Rules,
    Subject,
    global_random_state,
    same_random_state,
    title_of,
)


class Limit(Subject):
    """A constraint, and the network it is applied to."""

    def __init__(self, part: Constraint) -> None:
        super().__init__(title_of(part))
        self.part = part

    def __call__(self) -> tuple[Critic, dict[str, nn.Parameter]]:
        """The network after `apply`, and the parameters it had before."""
        network = Critic(8, 1, conditional=False, seed=100)
        before = dict(network.named_parameters())
        self.doing = "apply, on a network whose parameters require a gradient,"
        copy.deepcopy(self.part).apply(network)
        return network, before


RULES = Rules[Limit]("check_regularizer")


def bad_every(part: Regularizer | Constraint) -> Offence:
    """Return what is wrong with a part's `every`, or None.

    Example:
        >>> from gankit.regularizers import WeightClipping
        >>> bad_every(WeightClipping(every=2)) is None
        True
    """
    every: object = part.every
    return None if type(every) is int and every >= 1 else f"every is {every!r}, not a whole number of 1 or more"


@RULES.rule("protocol", "an every that is no whole number, or a class instead of an object")
def _(subject: Limit) -> Offence:
    return "it is a class, not an object" if isinstance(subject.part, type) else bad_every(subject.part)


@RULES.rule("no-graph", "a missing @torch.no_grad() on apply")
def _(subject: Limit) -> Offence:
    network, _ = subject()
    for key, parameter in network.named_parameters():
        if not parameter.is_leaf or not parameter.requires_grad or parameter.grad is not None:
            return f"after apply, parameter {key} is no leaf that requires a gradient and has none"
    return None


@RULES.rule("in-place", "an assignment of a new parameter; the optimizer holds the old one")
def _(subject: Limit) -> Offence:
    network, before = subject()
    for key, parameter in network.named_parameters():
        if parameter is not before.get(key):
            return f"after apply, parameter {key} is another object"
    return None


@RULES.rule("no-global-random", "torch.rand and the like, which draw from the caller's global generator")
def _(subject: Limit) -> Offence:
    before = global_random_state()
    subject()
    return None if same_random_state(before, global_random_state()) else "apply changes the global random state"


@RULES.rule("no-host-reads", "an .item(), float(), bool() or an `if` on a tensor, for which a GPU has to wait")
def _(subject: Limit) -> Offence:
    with HostReads() as reads:
        subject()
    return f"apply reads {reads.count} values on the host" if reads.count else None
