from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import LOSSES, LossSchedule, Spec
from gankit.errors import BadArgumentsError, BadValueError, UnknownNameError
from gankit.losses import Minimax, NonSaturating
from gankit.presets import ring
from gankit.training import Ranks


def test_each_stage_starts_at_its_step():
    schedule = LossSchedule({0: "non_saturating", 10: Spec("minimax"), 20: NonSaturating()}).build()
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


def test_a_schedule_holds_names_and_numbers():
    assert LossSchedule({0: "minimax", 5: Spec("f_divergence", divergence="kl")}).stages == {
        0: Spec("minimax"),
        5: Spec("f_divergence", divergence="kl"),
    }


def test_losses_by_name_are_built_anew_and_objects_are_kept():
    loss = NonSaturating()
    schedule = LossSchedule({0: "minimax", 5: loss})
    first, second = schedule.build(), schedule.build()
    assert first.loss_at(0) == second.loss_at(0)
    assert first.loss_at(0) is not second.loss_at(0)
    assert first.loss_at(5) is second.loss_at(5) is loss


def test_a_built_schedule_lists_each_loss_once():
    loss = NonSaturating()
    built = LossSchedule({0: loss, 5: "minimax", 10: loss}).build()
    assert built.losses == (loss, built.loss_at(5))


def test_arguments_that_do_not_fit_are_reported_when_the_losses_are_built():
    schedule = LossSchedule({0: Spec("minimax", label_smoothin=0.1)})
    with pytest.raises(BadArgumentsError, match="Did you mean 'label_smoothing'"):
        schedule.build()


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


# --- in a trainer ----------------------------------------------------------------------------------------


class CountingLoss(nn.Module, NonSaturating):
    """Counts the updates of the discriminator."""

    def __init__(self):
        nn.Module.__init__(self)
        self.register_buffer("count", torch.zeros(()))

    def discriminator_loss(self, real_logits, fake_logits):
        self.count += 1
        return super().discriminator_loss(real_logits, fake_logits)


@pytest.fixture
def preset(monkeypatch):
    LOSSES.names()  # loads plug-ins, so that the patched entry is the only one that is undone
    monkeypatch.setitem(LOSSES._factories, "counting", CountingLoss)
    return ring.replace(loss=LossSchedule({0: "counting", 5: "counting"}), batch_size=8)


def test_two_trainers_of_one_preset_share_no_state(preset):
    first, second = preset(device="cpu"), preset(device="cpu")
    first.fit(preset.batches(device="cpu"), steps=3)
    assert (first.loss.count, second.loss.count) == (3, 0)
    second.fit(preset.batches(device="cpu"), steps=2)
    assert (first.loss.count, second.loss.count) == (3, 2)


def test_the_states_of_all_losses_are_saved_and_restored(preset):
    first = preset(device="cpu").fit(preset.batches(device="cpu"), steps=7)
    second = preset(device="cpu")
    second.load_state_dict(first.state_dict())
    second.state.steps_done = 0
    assert second.loss.count == 5
    second.state.steps_done = 5
    assert second.loss.count == 2


def test_all_losses_are_moved_to_the_device_and_broadcast_to_the_ranks(preset, monkeypatch):
    moved, broadcast = [], []
    monkeypatch.setattr(CountingLoss, "to", lambda self, device: moved.append((self, device)))
    monkeypatch.setattr(Ranks, "broadcast", lambda self, tensors: broadcast.extend(tensors))
    trainer = preset(device="cpu")
    assert len({id(loss) for loss, _ in moved}) == 2
    assert {device for _, device in moved} == {trainer.device}
    assert {id(loss.count) for loss, _ in moved} <= {id(tensor) for tensor in broadcast}


def test_the_state_of_a_schedule_with_other_stages_is_refused():
    class Counting(torch.nn.Module, NonSaturating):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.register_buffer("count", torch.zeros(()))

    one, other = (LossSchedule({0: Counting(), step: Counting()}).build() for step in (5, 6))
    with pytest.raises(BadArgumentsError, match=r"the stages \['0', '5'\], got \['0', '6'\]"):
        one.load_state_dict(other.state_dict())
