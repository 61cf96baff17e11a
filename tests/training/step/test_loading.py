"""A state is loaded whole or not at all, only into a training like its own, and what it replaces is reported."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, NAdam, RMSprop

from gankit.architectures import MLPDiscriminator, MLPGenerator
from gankit.errors import BadArgumentsError, CheckpointError, NonFiniteWarning, ReplacedSettingsWarning
from gankit.losses import NonSaturating
from gankit.presets import ring
from gankit.spec import Spec
from gankit.training import Checkpointer, load_newest
from gankit.training.step.loading import check_optimizer_state, describe_optimizer
from tests.training.steps import SHAPE, adam, block, counts, everything, make, make_batches, randoms


def trained(**options):
    return make(**options).fit(make_batches(), steps=2)


def all_of(trainer):
    numbers = [
        [{k: v for k, v in g.items() if k != "params"} for g in o.param_groups] for o in trainer.state.optimizers
    ]
    return everything(trainer), randoms(trainer), counts(trainer), numbers


def assert_untouched(trainer, before):
    after = all_of(trainer)
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(one, after[0][name]) for name, one in before[0].items())
    assert all(map(torch.equal, before[1], after[1]))
    assert before[2:] == after[2:]


def assert_refused(trainer, state, says):
    before = all_of(trainer)
    with pytest.raises(BadArgumentsError, match=says) as caught:
        trainer.load_state_dict(state)
    assert "\n" not in str(caught.value)
    assert_untouched(trainer, before)
    trainer.fit(trainer.feed.batches, steps=trainer.steps_done + 1)  # and it can go on


# --- whole or not at all ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saved", "own"),
    [(Adam, SGD), (SGD, Adam), (Adam, AdamW), (AdamW, Adam), (NAdam, Adam), (RMSprop, Adam)],
    ids=lambda one: one.__name__,
)
def test_the_state_of_another_optimizer_is_refused(saved, own):
    state = trained(optimizer=partial(saved, lr=1e-2)).state_dict()
    says = f"a trainer whose generator_optimizer is {own.__name__}, as here, got {saved.__name__}"
    assert_refused(trained(optimizer=partial(own, lr=1e-2)), state, says)


def test_a_checkpoint_of_another_optimizer_is_refused():
    def preset(name):
        optimizer = Spec(name, lr=0.1)
        return ring.replace(batch_size=8, generator_optimizer=optimizer, discriminator_optimizer=optimizer)

    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        preset("adam")(device="cpu", callbacks=[checkpointer]).fit(ring.batches(device="cpu"), steps=1)
    with pytest.raises(CheckpointError, match="whose generator_optimizer is SGD, as here, got Adam"):
        load_newest("checkpoints").restore(preset("sgd")(device="cpu"))


def other_networks(classes=None, dtype=torch.float32):
    return MLPGenerator(3, SHAPE, widths=(9,), block=block), MLPDiscriminator(SHAPE, widths=(8,))


def wider_discriminator(classes=None, dtype=torch.float32):
    return MLPGenerator(3, SHAPE, widths=(8,), block=block, output_activation="tanh"), MLPDiscriminator(
        SHAPE, widths=(9,)
    )


def deeper_discriminator(classes=None, dtype=torch.float32):
    return MLPGenerator(3, SHAPE, widths=(8,), block=block, output_activation="tanh"), MLPDiscriminator(
        SHAPE, widths=(8, 8)
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"networks": other_networks},
            r"the generator, whose network\.0\.0\.weight is .* \(8, 3\), got .* \(9, 3\)",
        ),
        ({"networks": wider_discriminator}, r"the discriminator, whose network.* \(8, 16\), got .* \(9, 16\)"),
        ({"networks": deeper_discriminator}, "fit|groups of"),
        ({"dtype": torch.float64}, r"whose network\.0\.0\.weight is torch\.float32 \(8, 3\), got torch\.float64"),
    ],
    ids=["other generator", "wider discriminator", "deeper discriminator", "another type"],
)
def test_the_state_of_other_networks_is_refused(options, says):
    dtype = options.get("dtype", torch.float32)
    state = make(**options).fit(make_batches(dtype=dtype), steps=1).state_dict()
    assert_refused(trained(), state, says)


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


def with_part(name, value):
    return lambda state: {**state, name: value}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("watch"), "whole state_dict, got one without watch"),
        (with_part("steps_done", "two"), "a number of steps_done, got 'two'"),
        (with_part("random", {}), "it has no entry 'noise'"),
        (with_part("random", {"noise": torch.zeros(3, dtype=torch.uint8)}), "state must fit this trainer"),
        (with_part("generator", {}), "state must fit this trainer: .*Missing key"),
        (with_part("discriminator_optimizer", {"state": {}, "param_groups": []}), r"groups of \[4\] parameters.* \[\]"),
        (with_part("metrics", {"generator_loss": None}), "state must fit this trainer"),
        (lambda state: [state], "state_dict of format 1, got list"),
    ],
)
def test_a_state_that_is_not_whole_is_refused(change, says):
    assert_refused(trained(), change(trained().state_dict()), says)


class Remembers:
    """A callback with a state, which it cannot always load."""

    every = 1

    def __init__(self, loads=True):
        self.seen, self.loads = 0, loads

    def __call__(self, trainer):
        self.seen += 1

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]
        if self.seen == 3 and not self.loads:
            raise ValueError("three is too many")


def test_a_checkpoint_that_a_callback_cannot_take_changes_nothing():
    with Checkpointer("checkpoints", every_steps=3) as checkpointer:
        make(callbacks=[Remembers(), Remembers(), checkpointer]).fit(make_batches(), steps=3)
    trainer, batches = make(callbacks=[Remembers(), Remembers(loads=False)]), make_batches()
    trainer.fit(batches, steps=1)
    feed, before = trainer.feed, all_of(trainer)
    with pytest.raises(CheckpointError, match="three is too many"):
        load_newest("checkpoints").restore(trainer, batches)
    assert_untouched(trainer, before)
    assert trainer.feed is feed
    assert [one.seen for one in trainer.callbacks] == [1, 1]


class FailsToLoad(nn.Module, NonSaturating):
    """A loss whose second number cannot be loaded."""

    def __init__(self):
        nn.Module.__init__(self)
        self.register_buffer("count", torch.zeros(()))

    def get_extra_state(self):
        return torch.ones(())

    def set_extra_state(self, state):
        if float(self.count) == 7.0:
            raise OSError("no such number")


def test_a_part_that_fails_to_load_leaves_the_others_as_they_were():
    state = trained(loss=FailsToLoad()).state_dict()
    state["parts"]["loss"]["count"] = torch.tensor(7.0)
    assert_refused(trained(loss=FailsToLoad()), state, "state must fit this trainer: no such number")


def test_parameters_in_another_order_are_refused():
    def reordered(parameters):
        return adam(list(parameters)[::-1])

    assert_refused(
        trained(), trained(optimizer=reordered).state_dict(), "updates its parameters in the same order as here"
    )


def test_the_moments_of_an_optimizer_of_ones_own_may_have_any_shape():
    weight = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = torch.optim.Adafactor([weight])
    weight.grad = torch.ones(3, 2)
    optimizer.step()
    check_optimizer_state("generator_optimizer", optimizer, optimizer.state_dict(), describe_optimizer(optimizer))


def test_trainers_that_loaded_one_state_share_no_memory():
    first, second = trained(), make()
    second.load_state_dict(first.state_dict())
    before = all_of(first)
    second.fit(make_batches(), steps=4)
    assert_untouched(first, before)


# --- what a state replaces -------------------------------------------------------------------------------


def warned(trainer, state):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.load_state_dict(state)
    return [str(one.message) for one in caught if one.category is ReplacedSettingsWarning]


def test_a_learning_rate_that_a_state_replaces_is_reported():
    state = trained().state_dict()
    constructed, assigned = make(optimizer=partial(adam, lr=1e-5)), make()
    assigned.discriminator_optimizer.param_groups[0]["lr"] = 1e-5
    assert warned(constructed, state) == [
        "the loaded state has replaced generator_optimizer's lr 1e-05 by 0.01, discriminator_optimizer's lr 1e-05 by "
        "0.01; to train with another value, set it after loading"
    ]
    assert warned(assigned, state) == [
        "the loaded state has replaced discriminator_optimizer's lr 1e-05 by 0.01; to train with another value, set it "
        "after loading"
    ]
    assert assigned.discriminator_optimizer.param_groups[0]["lr"] == 1e-2


def test_so_are_other_numbers_and_rates_on_the_device():
    state = trained(optimizer=partial(SGD, lr=torch.tensor(0.1))).state_dict()
    [message] = warned(make(optimizer=partial(SGD, lr=0.2, momentum=0.9)), state)
    assert "generator_optimizer's lr 0.2 by 0.1, generator_optimizer's momentum 0.9 by 0," in message


@pytest.mark.parametrize("options", [{}, {"learning_rate_decay_steps": 20}], ids=["constant", "decaying"])
def test_the_rates_of_the_same_training_are_restored_without_a_word(options):
    assert warned(make(**options), trained(**options).state_dict()) == []


def stepped_by(make_scheduler):
    def state_after_two_steps():
        trainer = make()
        scheduler = make_scheduler(trainer.generator_optimizer)
        for batch in make_batches()[:2]:
            trainer.step(batch)
            scheduler.step()
        return trainer.state_dict()

    return state_after_two_steps


class ByHand:
    """A schedule that sets the rate and leaves no trace of its start."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        self.optimizer.param_groups[0]["lr"] *= 0.9


@pytest.mark.parametrize(
    "make_scheduler",
    [
        partial(torch.optim.lr_scheduler.StepLR, step_size=1),
        partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.25, total_steps=9),
        ByHand,
    ],
    ids=["StepLR", "OneCycleLR", "by hand"],
)
def test_so_are_those_of_a_schedule(make_scheduler):
    fresh = make()
    make_scheduler(fresh.generator_optimizer)
    assert warned(fresh, stepped_by(make_scheduler)()) == []


def test_going_back_to_a_checkpoint_is_not_a_change_of_settings():
    trainer = make()
    with Checkpointer("checkpoints", every_steps=1) as checkpointer, warnings.catch_warnings():
        warnings.simplefilter("error", ReplacedSettingsWarning)
        warnings.simplefilter("ignore", NonFiniteWarning)
        checkpointer.save(trainer)
        trainer.generator_optimizer.param_groups[0]["lr"] = 1e-5
        assert checkpointer.roll_back(trainer) == 0
    assert trainer.generator_optimizer.param_groups[0]["lr"] == 1e-2
