"""NaN and infinity end a training, or are skipped, and the host does not read in every step to notice them."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from gankit.errors import (
    BadValueError,
    NonFiniteDataError,
    NonFiniteError,
    NonFiniteWarning,
)
from gankit.losses import NonSaturating
from gankit.regularizers import Lecam
from gankit.spec import Spec
from tests.training.operators import READS, Operators
from tests.training.poisoned import EVERYWHERE, PLACES, POINTS, Poisoned, poisoned, states


def test_an_unknown_policy_is_refused():
    with pytest.raises(BadValueError, match="on_non_finite must be one of raise, skip, rollback, got 'ignore'"):
        POINTS(device="cpu", on_non_finite="ignore")


# --- raise -----------------------------------------------------------------------------------------------


@EVERYWHERE
def test_nan_and_infinity_end_training_at_the_next_check(where):
    trainer, batches = poisoned(where, {5})
    with pytest.raises(NonFiniteError, match="must be finite, got") as caught:
        trainer.fit(batches, steps=20)
    assert trainer.steps_done == 8
    message = str(caught.value)
    assert PLACES[where] in message
    assert "step 8" in message
    assert "\n" not in message
    assert isinstance(caught.value, NonFiniteDataError) == (where == "data")


def test_a_result_that_was_infinite_in_one_step_only_is_noticed():
    trainer, batches = poisoned("discriminator: infinite value", {5})
    with pytest.raises(NonFiniteError, match="discriminator_loss, .*, generator_loss must be finite, got NaN or infin"):
        trainer.fit(batches, steps=20)
    assert math.isfinite(trainer.read_metrics()["discriminator_loss"])


@pytest.mark.parametrize(("steps", "seen_at"), [(6, 6), (9, 8)])
def test_the_last_step_is_checked_too(steps, seen_at):
    trainer, batches = poisoned("generator: nan", {5})
    with pytest.raises(NonFiniteError):
        trainer.fit(batches, steps=steps)
    assert trainer.steps_done == seen_at


def test_between_two_checks_the_host_reads_nothing():
    trainer, batches = poisoned("generator: nan", {1000}, check_every_steps=10)
    trainer.fit(batches, steps=10)
    looks, complaint = [], trainer._non_finite.complaint
    trainer._non_finite.complaint = lambda feed: looks.append(trainer.steps_done) or complaint(feed)
    with Operators() as operators:
        trainer.fit(batches, steps=50)
    assert looks == [20, 30, 40, 50]
    assert not READS & operators.counts.keys()  # a look is one transfer, by tolist


@pytest.mark.slow
def test_nan_in_a_compiled_step_is_noticed():
    trainer, batches = poisoned("data", {5}, execution="compile")
    with pytest.raises(NonFiniteDataError):
        trainer.fit(batches, steps=20)
    assert trainer.steps_done == 8


@pytest.mark.parametrize("name", ["generator_gradient_norm", "discriminator_gradient_norm"])
def test_a_gradient_that_is_not_finite_shows_in_its_norm(name):
    half = name.partition("_")[0]

    class Rooted(NonSaturating):
        """A loss with a finite value and an infinite slope."""

        def generator_loss(self, fake_logits, real_logits=None):
            extra = (fake_logits * 0).sqrt() if half == "generator" else 0
            return super().generator_loss(fake_logits, real_logits) + extra

        def discriminator_loss(self, real_logits, fake_logits):
            extra = (real_logits * 0).sqrt() if half == "discriminator" else 0
            return super().discriminator_loss(real_logits, fake_logits) + extra

    trainer = POINTS(device="cpu", loss=Rooted(), max_gradient_norm=1.0, check_every_steps=1)
    with pytest.raises(NonFiniteError, match="the weights must be finite, got nan at step 1"):
        trainer.fit(POINTS.batches(device="cpu"), steps=1)
    assert not trainer.metrics[name].isfinite()


class Steep:
    """A penalty of value zero, with a slope whose square overflows float32."""

    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()

    def __call__(self, context):
        logits = context.logits("real")
        return (logits - logits.detach()) * 1e25


def test_moments_that_are_not_finite_are_noticed_although_no_weight_changes():
    trainer = POINTS(device="cpu", regularizers=[Steep()], check_every_steps=2)
    with pytest.raises(NonFiniteError, match="the optimizers' moments must be finite, got inf at step 2"):
        trainer.fit(POINTS.batches(device="cpu"), steps=2)
    assert all(value.isfinite().all() for value in states(trainer).values())


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("owner", ["generator", "discriminator", "averaged_generator"])
def test_statistics_that_are_not_finite_are_noticed_although_training_does_not_use_them(owner, value):
    trainer = POINTS(device="cpu", averaging_decay=0.5, generator=_with_norm(258), discriminator=_with_norm(2))
    trainer.fit(POINTS.batches(device="cpu"), steps=1)
    getattr(trainer, owner)[0].running_var[0] = value
    assert f"the buffers must be finite, got {value}" in str(trainer.complaint())


def test_a_buffer_may_be_infinite_but_not_nan():
    trainer = POINTS(device="cpu", regularizers=[Lecam()], averaging_decay=0.5)
    trainer.discriminator.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    trainer.fit(POINTS.batches(device="cpu"), steps=1)
    assert trainer.complaint() is None
    next(iter(trainer.regularizers.values())).real_average.fill_(math.nan)
    with pytest.raises(NonFiniteError, match="the buffers must be finite, got nan at step 1"):
        raise trainer.complaint()


def _with_norm(inputs):
    outputs = 2 if inputs != 2 else 1
    return nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, outputs), nn.Flatten(0 if outputs == 1 else 1))


# --- skip ------------------------------------------------------------------------------------------------


@EVERYWHERE
def test_a_skipped_update_leaves_everything_as_it_was_and_training_goes_on(where):
    trainer, batches = poisoned(where, {5}, on_non_finite="skip")
    trainer.fit(batches, steps=5)
    before = states(trainer)
    optimizers = {n: getattr(trainer, f"{n}_optimizer").state_dict()["state"] for n in ("generator", "discriminator")}
    moments = {f"{n}.{i}.{k}": v.clone() for n, s in optimizers.items() for i, m in s.items() for k, v in m.items()}
    half = "generator" if where.startswith("generator") else "discriminator"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonFiniteWarning)
        trainer.fit(batches, steps=6)
    after = states(trainer)
    # BatchNorm in G counts the samples for D's half too
    own = [name for name in before if name.startswith(half) and "running" not in name and "num_batches" not in name]
    assert all(torch.equal(before[name], after[name]) for name in own)
    for name, value in moments.items():
        if name.startswith(half):
            other, index, key = name.split(".")
            assert torch.equal(getattr(trainer, f"{other}_optimizer").state_dict()["state"][int(index)][key], value)
    other = "discriminator" if half == "generator" else "generator"
    assert not all(torch.equal(before[name], after[name]) for name in before if name.startswith(other))
    trainer.fit(batches, steps=12)
    assert all(value.isfinite().all() for value in states(trainer).values())
    assert trainer.read_metrics()["skipped_updates"] == 1


def test_skipped_updates_are_counted_in_one_warning_per_check():
    trainer, batches = poisoned("generator: nan", {1, 2, 6}, on_non_finite="skip")
    with pytest.warns(NonFiniteWarning) as caught:
        trainer.fit(batches, steps=12)
    assert [str(one.message) for one in caught] == [
        "2 updates were skipped before step 4, whose loss or gradient was not finite",
        "1 updates were skipped before step 8, whose loss or gradient was not finite",
    ]


def test_skipping_every_update_is_an_error():
    trainer, batches = poisoned("data", set(range(12)), on_non_finite="skip")
    with pytest.raises(NonFiniteError, match="8 updates were skipped before step 4, .*: all since the last check"):
        poisoned_generator(trainer).fit(batches, steps=12)


def poisoned_generator(trainer):
    """Make the generator's updates NaN too, so that they are skipped."""
    trainer.state.objectives._fixed_loss = Poisoned([trainer], "generator", set(range(12)))
    return trainer


@pytest.mark.parametrize("optimizer", ["adam", "sgd", Spec("sgd", momentum=0.9), "rmsprop", "rprop"])
def test_an_optimizers_very_first_update_can_be_skipped(optimizer):
    optimizers = {"generator_optimizer": optimizer, "discriminator_optimizer": optimizer}
    trainer, batches = poisoned("discriminator: nan", {0}, on_non_finite="skip", **optimizers)
    before = states(trainer)
    with pytest.warns(NonFiniteWarning, match="1 updates"):
        trainer.fit(batches, steps=1)
    after = states(trainer)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("discriminator"))
    trainer.fit(batches, steps=8)
    assert all(value.isfinite().all() for value in states(trainer).values())


def test_statistics_that_a_bad_batch_would_spoil_are_kept():
    discriminator = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
    trainer, batches = poisoned("data", {5}, on_non_finite="skip", discriminator=discriminator)
    with pytest.warns(NonFiniteWarning):
        trainer.fit(batches, steps=8)
    assert discriminator[1].running_mean.isfinite().all()


def test_without_anything_to_skip_skipping_changes_no_bit():
    plain, batches = poisoned("generator: nan", {1000})
    skipping, others = poisoned("generator: nan", {1000}, on_non_finite="skip")
    plain.fit(batches, steps=9)
    skipping.fit(others, steps=9)
    assert all(torch.equal(value, states(skipping)[name]) for name, value in states(plain).items())
    assert skipping.read_metrics()["skipped_updates"] == 0


def test_skipping_reads_no_number_on_the_host():
    trainer, batches = poisoned("generator: nan", {1000}, on_non_finite="skip")
    batch = next(iter(batches))
    trainer.step(batch)
    with Operators() as operators:
        trainer.step(batch)
    assert not READS & operators.counts.keys()


@pytest.mark.parametrize("where", ["discriminator: nan", "generator: nan"])
def test_a_shared_pass_of_g_can_be_skipped_too(where):
    trainer, batches = poisoned(where, {2}, on_non_finite="skip", share_generator_forward=True)
    with pytest.warns(NonFiniteWarning, match="1 updates"):
        trainer.fit(batches, steps=4)
    assert all(value.isfinite().all() for value in states(trainer).values())


# --- replicas --------------------------------------------------------------------------------------------


def test_with_replicas_those_that_are_finite_go_on():
    trainer = POINTS(device="cpu", replicas=3, check_every_steps=2)
    batches = POINTS.batches(device="cpu", replicas=3)
    trainer.fit(batches, steps=2)
    with torch.no_grad():
        next(iter(trainer.discriminator.parameters()))[1] = math.nan
    trainer.fit(batches, steps=6)
    assert trainer.metrics["discriminator_loss"].isfinite().tolist() == [True, False, True]
    with torch.no_grad():
        next(iter(trainer.discriminator.parameters())).fill_(math.nan)
    with pytest.raises(NonFiniteError, match="must be finite, got NaN or infinity in the 2 steps before step 8"):
        trainer.fit(batches, steps=10)


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_replicas_know_no_other_policy(policy):
    with pytest.raises(BadValueError, match=f"must be 'raise' with replicas, .*, got '{policy}'"):
        POINTS(device="cpu", replicas=2, on_non_finite=policy)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_skipping_reads_on_the_host_only_while_states_are_created(make_trainer, batches, momentum):
    trainer = make_trainer(on_non_finite="skip", check_every_steps=100)
    for half in ("generator", "discriminator"):
        parameters = getattr(trainer, half).parameters()
        setattr(trainer.state, f"{half}_optimizer", torch.optim.SGD(parameters, lr=0.1, momentum=momentum))
    trainer.step(batches[0])
    with Operators() as operators:
        trainer.step(batches[1])
    assert not READS & operators.counts.keys()
