"""`check_regularizer` of a constraint: wrong constraints are caught. The right ones pass in test_regularizers.py."""

from __future__ import annotations

from gankit.testing import RULES, check_regularizer
from tests.testing.catching import assert_caught, wrong_parts
from tests.testing.wrong_constraints import WRONG_CONSTRAINTS


@wrong_parts(WRONG_CONSTRAINTS)
def test_a_wrong_constraint_is_caught_by_the_rule_it_breaks(part, rule):
    assert_caught(check_regularizer, part, rule)


def test_every_rule_for_constraints_has_a_wrong_constraint():
    assert {rule for _, rule in WRONG_CONSTRAINTS} == RULES["constraint"].keys()
