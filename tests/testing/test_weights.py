"""`check_weight`: wrong weights are caught, right ones pass."""

from __future__ import annotations

import pytest
import torch

from gankit.adversary import balanced_weight
from gankit.testing import RULES, check_weight
from tests.testing.catching import assert_caught, wrong_parts


def norms(reconstruction, term, at, **options):
    options = {"retain_graph": True} | options
    return [torch.autograd.grad(loss, at, **options)[0].norm() for loss in (reconstruction, term)]


def of_each_number(reconstruction, term, *, at):
    return balanced_weight(reconstruction, term, at=at) * torch.ones_like(at)


def with_a_graph(reconstruction, term, *, at):
    first, second = norms(reconstruction, term, at, create_graph=True)
    return first / second


def without_retained_graph(reconstruction, term, *, at):
    first, second = norms(reconstruction, term, at, retain_graph=False)
    return first / second


def by_backward(reconstruction, term, *, at):
    reconstruction.backward(retain_graph=True)
    return at.grad.norm() / norms(reconstruction, term, at)[1]


def squared(reconstruction, term, *, at):
    return balanced_weight(reconstruction, term, at=at) ** 2


WRONG_WEIGHTS = [
    (of_each_number, "scalar"),
    (with_a_graph, "detached"),
    (without_retained_graph, "no-trace"),
    (by_backward, "no-trace"),
    (squared, "ratio"),
]


@wrong_parts(WRONG_WEIGHTS)
def test_a_wrong_weight_is_caught_by_the_rule_it_breaks(part, rule):
    assert_caught(check_weight, part, rule)


def test_every_rule_for_weights_has_a_wrong_weight():
    assert {rule for _, rule in WRONG_WEIGHTS} == RULES["weight"].keys()


@pytest.mark.parametrize("factor", [1.0, 0.8])
def test_balanced_weight_passes(factor):
    check_weight(lambda reconstruction, term, *, at: factor * balanced_weight(reconstruction, term, at=at))
