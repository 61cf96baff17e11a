"""A training that goes on from a saved state."""

from __future__ import annotations

import io
from functools import partial

import pytest
import torch
from torch import nn

from gankit import LossSchedule
from gankit.data import TensorBatches
from gankit.errors import BadArgumentsError, ReplacedSettingsWarning
from gankit.losses import NonSaturating
from gankit.regularizers import R1, Lecam, PathLength
from tests.training.observing import same, weights
from tests.training.steps import SHAPE, make, make_batches, small_networks, stacked


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"averaging_decay": 0.9, "discriminator_steps": 2, "regularizers": [R1()]},
        {"learning_rate_decay_steps": 20},
    ],
)
def test_a_loaded_state_continues_to_the_last_bit(make_trainer, options):
    def data():
        samples = torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(2))
        return TensorBatches(samples, batch_size=6, sample_range=None)

    def network():
        torch.manual_seed(5)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.3), nn.Linear(8, 1), nn.Flatten(0))

    whole = make_trainer(discriminator=network(), **options).fit(data(), steps=11)

    first = make_trainer(discriminator=network(), **options)
    first_data = data()
    first.fit(first_data, steps=4)
    file = io.BytesIO()
    torch.save({"trainer": first.state_dict(), "data": first_data.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    second, second_data = make_trainer(discriminator=network(), **options), data()
    torch.manual_seed(99)  # dropout's generator is part of the state
    second.load_state_dict(state["trainer"])
    second_data.load_state_dict(state["data"])
    second.fit(second_data, steps=11)
    assert second.steps_done == 11
    for name in ("generator", "discriminator"):
        assert same(weights(getattr(whole, name)), weights(getattr(second, name)))
    assert torch.equal(whole.sample(3), second.sample(3))


def test_a_state_of_another_kind_is_refused(make_trainer):
    trainer = make_trainer()
    with pytest.raises(BadArgumentsError, match="state_dict of format 1, got None"):
        trainer.load_state_dict({})
    with pytest.raises(BadArgumentsError, match="without averaging_decay, this one is with"):
        make_trainer(averaging_decay=0.5).load_state_dict(trainer.state_dict())


def test_the_state_of_a_scheduled_loss_is_saved(make_trainer):
    class Counting(nn.Module, NonSaturating):
        def __init__(self):
            nn.Module.__init__(self)
            self.register_buffer("count", torch.zeros(()))

    first = make_trainer(loss=LossSchedule({0: Counting(), 5: "minimax"}))
    first.loss.count.fill_(7.0)
    second = make_trainer(loss=LossSchedule({0: Counting(), 5: "minimax"}))
    second.load_state_dict(first.state_dict())
    assert second.loss.count == 7.0


# --- what is saved ---------------------------------------------------------------------------------------

EVERYTHING = {"averaging_decay": 0.9, "max_gradient_norm": 1.0, "on_non_finite": "skip"}


def state_of(steps=4, **options):
    """Return the state of a trainer after some steps, with penalties that have averages."""
    options = {"regularizers": [R1(), Lecam()]} | EVERYTHING | options
    return make(**options).fit(make_batches(), steps=steps).state


def copied(state):
    """Return a saved state that later steps do not change."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_equal_states(one, other, path="state"):
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for name, value in one.items():
            assert_equal_states(value, other[name], f"{path}.{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for index, (value, another) in enumerate(zip(one, other, strict=True)):
            assert_equal_states(value, another, f"{path}.{index}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    else:
        assert one == other, path


@pytest.mark.parametrize("replicas", [None, 2])
def test_the_state_is_what_the_ranks_share_and_what_each_has_for_itself(replicas):
    trainer = make(networks=stacked(small_networks, replicas) if replicas else small_networks, averaging_decay=0.9)
    trainer.fit(make_batches(replicas=(replicas,) if replicas else ()), steps=2)
    state = trainer.state
    shared, own, whole = map(copied, (state.shared_state_dict(), state.rank_state_dict(), trainer.state_dict()))
    assert not shared.keys() & own.keys()
    assert_equal_states(shared | own, whole)
    assert own.keys() == {"random"}


def test_a_state_holds_the_tensors_themselves():
    state = state_of()
    assert (
        state.state_dict()["generator"]["network.1.weight"].data_ptr() == state.generator.network[1].weight.data_ptr()
    )


def test_a_loaded_state_is_the_one_that_was_saved():
    first, second = state_of(), state_of(steps=1)
    saved = copied(first.state_dict())
    second.is_between_steps = False
    second.load_state_dict(saved)
    assert_equal_states(copied(second.state_dict()), saved)
    assert second.is_between_steps


REFUSED = {
    "another format": (lambda saved: saved | {"format": 2}, "state_dict of format 1, got 2"),
    "no format": (lambda saved: {}, "state_dict of format 1, got None"),
    "no average": (lambda saved: saved | {"average": None}, "of a trainer without averaging_decay, this one is with"),
    "fewer parts": (lambda saved: saved | {"parts": {}}, r"has the parts \[\], this trainer has \['penalty/lecam'\]"),
    "other parts": (
        lambda saved: saved | {"parts": {"loss": {}, "penalty/lecam": {}}},
        r"has the parts \['loss', 'penalty/lecam'\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_state_of_another_training_is_refused_before_anything_is_changed(case):
    change, says = REFUSED[case]
    saved, own = copied(state_of().state_dict()), state_of(steps=1)
    before = copied(own.state_dict())
    with pytest.raises(BadArgumentsError, match=says) as caught:
        own.load_state_dict(change(saved))
    assert "\n" not in str(caught.value)
    assert_equal_states(copied(own.state_dict()), before)


def test_an_average_is_refused_by_a_training_without_one():
    with pytest.raises(BadArgumentsError, match="of a trainer with averaging_decay, this one is without"):
        state_of(averaging_decay=None).load_state_dict(state_of().state_dict())


# --- a state for another recipe --------------------------------------------------------------------------


def test_a_state_fits_the_same_training_as_it_is():
    state = state_of()
    saved = state.shared_state_dict()
    assert_equal_states(copied(state_of(steps=1).fit_state(saved, ())), copied(saved))


@pytest.mark.parametrize("half", ["generator", "discriminator"])
def test_a_changed_optimizer_of_the_same_kind_has_new_numbers_and_the_old_moments(half):
    saved = state_of().shared_state_dict()
    other = state_of(steps=1, optimizer=partial(torch.optim.Adam, lr=0.5, eps=1e-3))
    fitted = other.fit_state(saved, {f"{half}_optimizer"})
    optimizer = fitted[f"{half}_optimizer"]
    assert_equal_states(optimizer["state"], saved[f"{half}_optimizer"]["state"])
    assert (optimizer["param_groups"][0]["lr"], optimizer["param_groups"][0]["eps"]) == (0.5, 1e-3)
    rest = {name: value for name, value in fitted.items() if name not in (f"{half}_optimizer", "optimizers")}
    assert_equal_states(rest, {name: saved[name] for name in rest})
    with pytest.warns(ReplacedSettingsWarning, match="lr 0.5 by 0.01"):  # of the optimizer that was not to change
        other.load_state_dict(fitted | other.rank_state_dict())
    assert other.optimizer(half).param_groups[0]["lr"] == 0.5


def test_a_decayed_rate_does_not_make_it_an_optimizer_of_another_kind():
    saved = state_of(learning_rate_decay_steps=20).shared_state_dict()
    assert "initial_lr" in saved["generator_optimizer"]["param_groups"][0]
    fitted = state_of(steps=0).fit_state(saved, {"generator_optimizer"})
    assert fitted["generator_optimizer"]["state"]


def test_an_optimizer_of_another_kind_begins_without_moments():
    saved = state_of().shared_state_dict()
    other = state_of(steps=1, optimizer=partial(torch.optim.SGD, lr=0.5, momentum=0.9))
    fitted = other.fit_state(saved, {"generator_optimizer", "discriminator_optimizer"})
    assert fitted["generator_optimizer"]["state"] == {}
    other.load_state_dict(fitted | other.rank_state_dict())
    assert not other.generator_optimizer.state


def test_a_new_average_begins_with_the_saved_weights_and_an_old_one_is_dropped():
    without, with_average = state_of(averaging_decay=None), state_of()
    saved = copied(without.shared_state_dict())
    fitted = with_average.fit_state(saved, ())
    with_average.load_state_dict(fitted | with_average.rank_state_dict())
    assert with_average.average.updates_done == 0
    assert_equal_states(dict(with_average.average.network.state_dict()), dict(saved["generator"]))
    assert without.fit_state(with_average.shared_state_dict(), ())["average"] is None


@pytest.mark.parametrize("changed", ["loss", "regularizers"])
def test_changed_parts_begin_without_a_past_and_others_keep_theirs(changed):
    saved, other = state_of().shared_state_dict(), state_of(steps=0)
    assert_equal_states(
        dict(other.fit_state(saved, {"precision"})["parts"]["penalty/lecam"]), dict(saved["parts"]["penalty/lecam"])
    )
    fresh = other.fit_state(saved, {changed})["parts"]
    assert_equal_states(dict(fresh["penalty/lecam"]), dict(Lecam().state_dict()))


def test_a_part_that_was_not_saved_starts_fresh_and_one_that_is_gone_is_dropped():
    saved, other = state_of().shared_state_dict(), state_of(steps=0, regularizers=[PathLength()])
    fitted = other.fit_state(saved, ())
    assert fitted["parts"].keys() == {"penalty/path_length"}
    other.load_state_dict(fitted | other.rank_state_dict())
    assert other.steps_done == 4


# --- what a step can change ------------------------------------------------------------------------------


def test_its_tensors_are_those_of_the_modules_the_average_the_watch_and_the_optimizers():
    state = state_of()
    pointers = {tensor.data_ptr() for tensor in state.tensors()}
    saved = state.state_dict()
    for name in ("generator", "discriminator"):
        assert {tensor.data_ptr() for tensor in saved[name].values()} <= pointers
        moments = [one for each in saved[f"{name}_optimizer"]["state"].values() for one in each.values()]
        assert {tensor.data_ptr() for tensor in moments} <= pointers
    assert {tensor.data_ptr() for tensor in saved["average"]["network"].values()} <= pointers
    assert {tensor.data_ptr() for tensor in saved["parts"]["penalty/lecam"].values()} <= pointers
    assert {saved["watch"][name].data_ptr() for name in ("largest_result", "skipped")} <= pointers


def test_only_a_finished_step_counts():
    state = state_of(steps=0)
    state.is_between_steps = False
    state.finish_step({"a": torch.tensor(1.0)}, has_updated_generator=False)
    assert (state.steps_done, state.average.updates_done, state.is_between_steps) == (1, 0, True)
    state.finish_step({}, has_updated_generator=True)
    assert (state.steps_done, state.average.updates_done) == (2, 1)
    assert state.metrics.newest == {"a": 1.0}
