"""The check of a function that weights an adversarial term by gradients, such as `gankit.balanced_weight`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor

from gankit.testing.rules import Rules, Subject, Violation, title_of
from gankit.testing.tensors import shape_text, standard_normal


class WeightFunction(Protocol):
    """A function from two losses, 0-d, to the weight of the second."""

    def __call__(self, reconstruction: Tensor, term: Tensor, *, at: Tensor) -> Tensor:
        """Return the weight, 0-d, from the gradients of both losses for `at`."""
        ...


class _WeightSubject(Subject):
    def __init__(self, function: WeightFunction) -> None:
        super().__init__(title_of(function))
        self.function = function

    def losses(self, reconstruction: float = 1.0, term: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """Return two losses of a new tensor, each times a factor, whose gradients are not parallel, and the tensor."""
        at = standard_normal(6, seed=1).requires_grad_()
        return reconstruction * (at - 3).square().sum(), term * (at * standard_normal(6, seed=2)).sum(), at

    def __call__(self, reconstruction: Tensor, term: Tensor, at: Tensor) -> Tensor:
        self.current_call = "the call with two losses of one tensor of 6 numbers"
        return self.as_tensor(self.function(reconstruction, term, at=at))


RULES = Rules[_WeightSubject]("check_weight")


def check_weight(weight: WeightFunction, *, skip: Collection[str] = ()) -> None:
    """Check a function that weights an adversarial term by the gradients of two losses.

    Args:
        weight: The function, called as `weight(reconstruction, term, at=tensor)`.
        skip: The names of rules that are not checked.

    Raises:
        ConformanceError: For the first broken rule; the error's `rule` is its name.
        BadValueError: If `skip` contains a name that is not a rule.

    Example:
        >>> def applied_twice(reconstruction, term, *, at):
        ...     norms = [torch.autograd.grad(loss, at, retain_graph=True)[0].norm() for loss in (reconstruction, term)]
        ...     return (norms[0] / norms[1]) ** 2
        >>> check_weight(applied_twice)
        Traceback (most recent call last):
        gankit.errors.ConformanceError: check_weight: applied_twice breaks the rule 'ratio': with twice the \
reconstruction the weight is 4 times as large, not 2 times; the usual cause is a weight that is applied more than \
once, or norms that are squared
    """
    RULES.check(_WeightSubject(weight), skip)


@RULES.rule("scalar", "a weight for each number of the tensor")
def _scalar_violation(subject: _WeightSubject) -> Violation:
    weight = subject(*subject.losses())
    if weight.ndim or not weight.isfinite():
        return f"it returns {f'the shape {shape_text(weight)}' if weight.ndim else weight.item()}"
    return None


@RULES.rule("detached", "a missing .detach(), with which the weight is trained as well")
def _detached_violation(subject: _WeightSubject) -> Violation:
    return "the weight has a graph" if subject(*subject.losses()).requires_grad else None


@RULES.rule("no-trace", "backward instead of autograd.grad, or a missing retain_graph=True")
def _no_trace_violation(subject: _WeightSubject) -> Violation:
    reconstruction, term, at = subject.losses()
    weight = subject(reconstruction, term, at)
    if at.grad is not None:
        return "after the call the tensor has a .grad"
    subject.current_call = "the backward pass of reconstruction + weight * term after the call"
    torch.autograd.backward(reconstruction + weight.detach() * term)
    return None


@RULES.rule("ratio", "a weight that is applied more than once, or norms that are squared")
def _ratio_violation(subject: _WeightSubject) -> Violation:
    once = subject(*subject.losses())
    for name, losses, expected in (
        ("reconstruction", subject.losses(reconstruction=2), 2.0),
        ("term", subject.losses(term=2), 0.5),
    ):
        factor = (subject(*losses) / once).item()
        # a small number in the denominator is allowed
        if abs(factor / expected - 1) > 0.01:
            return f"with twice the {name} the weight is {factor:.3g} times as large, not {expected:g} times"
    return None
