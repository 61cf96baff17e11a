from __future__ import annotations

import pytest

from gankit import LOSSES, LossSchedule, Spec
from gankit.errors import BadValueError, UnknownNameError
from gankit.losses import Minimax, NonSaturating


def test_each_stage_starts_at_its_step():
    schedule = LossSchedule({0: "non_saturating", 10: Spec("minimax"), 20: NonSaturating()})
    assert [type(schedule.loss_at(step)) for step in (0, 9, 10, 19, 20, 10**6)] == [
        NonSaturating,
        NonSaturating,
        Minimax,
        Minimax,
        NonSaturating,
        NonSaturating,
    ]


def test_the_order_in_which_stages_are_given_does_not_matter():
    assert LossSchedule({5: "minimax", 0: "non_saturating"}) == LossSchedule({0: "non_saturating", 5: "minimax"})


def test_a_schedule_goes_through_the_registry_as_a_ready_loss():
    schedule = LossSchedule({0: "minimax"})
    assert LOSSES.build(schedule) is schedule


@pytest.mark.parametrize(
    ("stages", "error", "says"),
    [
        ({}, BadValueError, "needs a loss for step 0"),
        ({5: "minimax"}, BadValueError, r"needs a loss for step 0, got steps \[5\]"),
        ({0: "minimax", -3: "minimax"}, BadValueError, "integers of 0 or more"),
        ({0: "minimax", 1.5: "minimax"}, BadValueError, "integers of 0 or more"),
        ({0: "minmax"}, UnknownNameError, "Did you mean 'minimax'"),
    ],
)
def test_impossible_stages_are_refused(stages, error, says):
    with pytest.raises(error, match=says):
        LossSchedule(stages)
