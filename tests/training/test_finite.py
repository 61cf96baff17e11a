"""NaN and infinity: noticed without a look of the host in each step, and kept out of what is saved."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, default_collate

from gankit.cli import main
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointWarning,
    DataError,
    NonFiniteDataError,
    NonFiniteError,
    NonFiniteWarning,
)
from gankit.losses import NonSaturating
from gankit.presets import ring, vanilla_mnist
from gankit.regularizers import REGULARIZERS
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import Checkpointer, MetricsLog, load_newest
from gankit.training.step import learning_rates
from gankit.training.step.finite import Undoable, all_finite, largest_magnitude
from tests.training.test_counts import READS, Operators

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8]),
    discriminator=Spec("mlp", widths=[8]),
    batch_size=16,
    learning_rate_decay=False,
    averaging_decay=None,
    regularizers=(),
)


class Poisoned(NonSaturating):
    """A loss that is not finite in some steps of one half, or whose gradient is not, or both."""

    def __init__(self, trainer, half, steps, value=math.nan, *, gradient=True):
        self._trainer, self._half, self._steps, self._value, self._gradient = trainer, half, steps, value, gradient

    def _poisoned(self, half, loss):
        if half == self._half and self._trainer[0].steps_done in self._steps:
            # infinity added is not seen by the gradient, multiplied it is
            return loss * self._value if self._gradient else loss + self._value
        return loss

    def discriminator_loss(self, real_logits, fake_logits):
        return self._poisoned("discriminator", super().discriminator_loss(real_logits, fake_logits))

    def generator_loss(self, fake_logits, real_logits=None):
        return self._poisoned("generator", super().generator_loss(fake_logits, real_logits))


class PoisonedPenalty:
    """A penalty that is infinite in some steps."""

    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, context):
        value = math.inf if context.step in self.steps else 0.0
        return context.logits("real") * 0 + value


def poisoned(where, steps, **options):
    """A trainer and its batches, something of which is not finite in these steps, from 0."""
    options = {"device": "cpu", "check_every_steps": 4, "log_every_steps": 100, "execution": "eager"} | options
    batches = POINTS.batches(device="cpu")
    if where == "data":
        batches = [next(iter(batches)).clone() for _ in range(max(steps) + 8)]
        for step in steps:
            batches[step][3, 1] = -math.inf
        return POINTS(**options), batches
    if where == "penalty":
        return POINTS(regularizers=[PoisonedPenalty(steps)], **options), batches
    half, kind = where.split(": ")
    holder = []
    value, gradient = {"nan": (math.nan, True), "infinite value": (math.inf, False), "infinite": (math.inf, True)}[kind]
    holder.append(POINTS(loss=Poisoned(holder, half, steps, value, gradient=gradient), **options))
    return holder[0], batches


PLACES = {
    "discriminator: nan": "weights",
    "discriminator: infinite": "weights",
    "discriminator: infinite value": "discriminator_loss",
    "generator: nan": "weights",
    "generator: infinite value": "generator_loss",
    "penalty": "penalty/",
    "data": "batches",
}
EVERYWHERE = pytest.mark.parametrize("where", PLACES)


def states(trainer):
    return {
        f"{half}.{name}": value.clone()
        for half in ("generator", "discriminator")
        for name, value in getattr(trainer, half).state_dict().items()
    }


# --- raise -----------------------------------------------------------------------------------------------


@EVERYWHERE
def test_it_is_seen_at_the_next_check(where):
    trainer, batches = poisoned(where, {5})
    with pytest.raises(NonFiniteError, match="must be finite, got") as caught:
        trainer.fit(batches, steps=20)
    assert trainer.steps_done == 8
    told = str(caught.value)
    assert PLACES[where] in told
    assert "step 8" in told
    assert "\n" not in told
    assert isinstance(caught.value, NonFiniteDataError) == (where == "data")


def test_what_was_not_finite_for_one_step_alone_is_seen_too():
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
def test_it_is_seen_in_a_compiled_step():
    trainer, batches = poisoned("data", {5}, execution="compile")
    with pytest.raises(NonFiniteDataError):
        trainer.fit(batches, steps=20)
    assert trainer.steps_done == 8


@pytest.mark.parametrize("name", ["generator_gradient_norm", "discriminator_gradient_norm"])
def test_a_gradient_that_is_not_finite_is_seen_by_its_norm(name):
    half = name.partition("_")[0]

    class Rooted(NonSaturating):
        """Its value is finite, its slope at 0 is not."""

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
    """A penalty of almost no value, with a slope whose square no float32 can hold."""

    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()

    def __call__(self, context):
        logits = context.logits("real")
        return (logits - logits.detach()) * 1e25


def test_moments_that_are_not_finite_are_seen_though_no_weight_moves_any_more():
    trainer = POINTS(device="cpu", regularizers=[Steep()], check_every_steps=2)
    with pytest.raises(NonFiniteError, match="the optimizers' moments must be finite, got inf at step 2"):
        trainer.fit(POINTS.batches(device="cpu"), steps=2)
    assert all(value.isfinite().all() for value in states(trainer).values())


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


def test_what_is_skipped_is_told_once_with_its_number():
    trainer, batches = poisoned("generator: nan", {1, 2, 6}, on_non_finite="skip")
    with pytest.warns(NonFiniteWarning) as caught:
        trainer.fit(batches, steps=12)
    assert [str(one.message) for one in caught] == [
        "2 updates were left out before step 4, whose loss or gradient was not finite",
        "1 updates were left out before step 8, whose loss or gradient was not finite",
    ]


def test_where_every_update_is_skipped_it_is_an_error():
    trainer, batches = poisoned("data", set(range(12)), on_non_finite="skip")
    with pytest.raises(NonFiniteError, match="8 updates were left out before step 4, .*: all since the last check"):
        poisoned_generator(trainer).fit(batches, steps=12)


def poisoned_generator(trainer):
    """Let the generator's updates be skipped too."""
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


# --- roll back -------------------------------------------------------------------------------------------


def rates(trainer):
    return [o.param_groups[0]["lr"] for o in (trainer.generator_optimizer, trainer.discriminator_optimizer)]


class Cured(Poisoned):
    """It is poisoned until the learning rate is half of what it was."""

    def __init__(self, holder, at):
        super().__init__(holder, "discriminator", {at})
        self.at = at

    def _poisoned(self, half, loss):
        first = self._trainer[0].discriminator_optimizer.param_groups[0]["lr"]
        return super()._poisoned(half, loss) if first > 0.6e-3 else loss


def curable(at=10, every=3, lr=1e-3, **options):
    holder = []
    adam = {f"{half}_optimizer": Spec("adam", lr=lr) for half in ("generator", "discriminator")}
    holder.append(
        POINTS(loss=Cured(holder, at), device="cpu", check_every_steps=4, on_non_finite="rollback", **adam, **options)
    )
    checkpointer = Checkpointer("checkpoints", every_steps=every)
    holder[0].callbacks.append(checkpointer)
    return holder[0], POINTS.batches(device="cpu"), checkpointer


def test_rolling_back_goes_on_from_the_newest_good_checkpoint_with_half_the_rates():
    trainer, batches, checkpointer = curable()
    with checkpointer, pytest.warns(NonFiniteWarning) as caught:
        trainer.fit(batches, steps=20)
    assert [str(one.message) for one in caught if one.category is NonFiniteWarning] == [
        "training went back from step 12 to step 9, and goes on with half the learning rates: the weights must be "
        "finite, got nan at step 12; lower the learning rates, or go on by on_non_finite"
    ]
    assert trainer.steps_done == 20
    assert rates(trainer) == [0.5e-3, 0.5e-3]
    assert trainer.watch.rollbacks == 1
    assert all(value.isfinite().all() for value in states(trainer).values())


def test_what_follows_is_what_a_training_gives_that_goes_on_from_there_so():
    trainer, batches, checkpointer = curable()
    with checkpointer, pytest.warns(NonFiniteWarning):
        trainer.fit(batches, steps=20)
    again, others, keeper = curable(lr=1e-3)
    keeper.close()
    again.callbacks.clear()
    again.watch.policy = "raise"
    again.fit(others, steps=9)
    learning_rates.scale((again.generator_optimizer, again.discriminator_optimizer), 0.5)
    again.fit(others, steps=20)
    assert all(torch.equal(value, states(again)[name]) for name, value in states(trainer).items())


def test_each_further_rollback_halves_the_rates_again():
    trainer, batches, checkpointer = curable(lr=3e-3)
    with checkpointer, pytest.warns(NonFiniteWarning) as caught:
        trainer.fit(batches, steps=20)
    assert sum(one.category is NonFiniteWarning for one in caught) == 3
    assert rates(trainer) == [3e-3 / 8] * 2


def test_after_five_rollbacks_it_is_an_error():
    trainer, batches, checkpointer = curable(lr=1.0)
    with (
        pytest.raises(NonFiniteError, match="the weights must be finite"),
        checkpointer,
        pytest.warns(NonFiniteWarning) as caught,
    ):
        trainer.fit(batches, steps=20)
    assert sum(one.category is NonFiniteWarning for one in caught) == 5
    assert load_newest("checkpoints").step == 9


def test_the_rates_of_a_schedule_are_halved_with_it():
    trainer, batches, checkpointer = curable(learning_rate_decay=True)
    with checkpointer, pytest.warns(NonFiniteWarning):
        trainer.fit(batches, steps=20)
    assert rates(trainer)[0] == pytest.approx(0.5e-3 * (1 - 19 / POINTS.steps))


def test_the_log_is_cut_back_with_it():
    trainer, batches, checkpointer = curable()
    trainer.callbacks.insert(0, MetricsLog("metrics.jsonl", every=1))
    with checkpointer, pytest.warns(NonFiniteWarning):
        trainer.fit(batches, steps=20)
    rows = [json.loads(line) for line in Path("metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert None not in [value for row in rows for value in row.values()]


def test_the_number_of_rollbacks_is_saved():
    trainer, batches, checkpointer = curable()
    with checkpointer, pytest.warns(NonFiniteWarning):
        trainer.fit(batches, steps=20)
    again, others, _ = curable()
    load_newest("checkpoints").restore(again, others)
    assert (again.watch.rollbacks, rates(again)) == (1, rates(trainer))


def test_rolling_back_needs_something_that_keeps_states():
    with pytest.raises(BadArgumentsError, match="needs a Checkpointer among the callbacks, got none"):
        POINTS(device="cpu", on_non_finite="rollback").fit(POINTS.batches(device="cpu"), steps=1)


# --- never saved as good ---------------------------------------------------------------------------------


@EVERYWHERE
@pytest.mark.parametrize("policy", ["raise", "skip", "rollback"])
def test_no_checkpoint_holds_what_is_not_finite(where, policy):
    trainer, batches = poisoned(where, {5, 6}, on_non_finite=policy)
    with warnings.catch_warnings(), Checkpointer("checkpoints", every_steps=1, keep_last=None) as checkpointer:
        warnings.simplefilter("ignore", CheckpointWarning)
        warnings.simplefilter("ignore", NonFiniteWarning)
        trainer.callbacks.append(checkpointer)
        try:
            trainer.fit(batches, steps=11)
        except NonFiniteError:
            assert policy != "skip"
    saved = sorted(Path("checkpoints").iterdir())
    assert saved
    for folder in saved:
        state = torch.load(folder / "state.pt", weights_only=True)["trainer"]
        for half in ("generator", "discriminator"):
            assert all(value.isfinite().all() for value in state[half].values())
            moments = [v for s in state[f"{half}_optimizer"]["state"].values() for v in s.values()]
            assert all(torch.as_tensor(value).isfinite().all() for value in moments)
    steps = [int(folder.name[5:]) for folder in saved]
    assert steps == (list(range(1, 12)) if policy == "skip" else list(range(1, 6)))


def test_a_training_that_is_stopped_with_nan_keeps_the_good_checkpoint():
    trainer, batches = poisoned("generator: nan", {5}, on_non_finite="rollback", check_every_steps=100)

    class Stop:
        every = 7

        def __call__(self, trainer):
            trainer.stop()

    with Checkpointer("checkpoints", every_steps=3) as checkpointer:
        trainer.callbacks += [Stop(), checkpointer]
        with pytest.warns(CheckpointWarning, match="step 6 is not saved: the weights must be finite, got nan"):
            trainer.fit(batches, steps=20)
        with pytest.warns(CheckpointWarning, match="step 7 is not saved: the weights must be finite, got nan"):
            checkpointer.save(trainer)
    assert load_newest("checkpoints").step == 3


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


# --- the pieces, and the command -------------------------------------------------------------------------


def test_an_unknown_policy_is_refused():
    with pytest.raises(BadValueError, match="on_non_finite must be one of raise, skip, rollback, got 'ignore'"):
        POINTS(device="cpu", on_non_finite="ignore")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_largest_value_shows_what_is_not_finite(bad):
    assert not largest_magnitude([torch.zeros(3), torch.tensor([0.0, bad])])[0].isfinite()
    assert largest_magnitude([]) == []
    assert all_finite([torch.tensor([1.0, bad]), torch.tensor([2.0, 3.0])]).tolist() == [True, False]


def test_what_is_kept_aside_comes_back():
    layer = nn.BatchNorm1d(2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.randn(4, 2)).square().sum().backward()
    optimizer.step()
    before = [t.clone() for t in (*layer.parameters(), *layer.buffers())]
    steps = next(iter(optimizer.state.values()))["step"].clone()
    for keep in (False, True):
        undoable = Undoable(optimizer, [layer])
        layer(torch.randn(4, 2) + 3)
        optimizer.step()
        undoable.keep_if(torch.tensor(keep))
        same = [torch.equal(a, b) for a, b in zip(before, (*layer.parameters(), *layer.buffers()), strict=True)]
        assert all(same) != keep
        assert torch.equal(steps, next(iter(optimizer.state.values()))["step"]) != keep


def test_rolling_back_without_checkpoints_is_refused_in_a_recipe():
    with pytest.raises(BadValueError, match="checkpoint_every_steps must be above 0 with on_non_finite='rollback'"):
        Recipe(preset=POINTS.replace(on_non_finite="rollback"), checkpoint_every_steps=0)


ARGUMENTS = ["train", "ring", "--steps", "12", "--no-progress", "--device", "cpu", "--out", "run", "--batch-size", "16"]


def test_a_run_that_raises_ends_with_one_sentence(capsys):
    arguments = [*ARGUMENTS, "--discriminator-optimizer", "sgd:lr=1e30", "--check-every-steps", "3"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "gankit: error: " in error
    assert "must be finite, got" in error
    assert "continue" not in error


def test_a_run_that_rolls_back_has_a_checkpoint_to_begin_with(capsys):
    arguments = [*ARGUMENTS, "--discriminator-optimizer", "sgd:lr=1e30", "--on-non-finite", "rollback"]
    with pytest.warns(NonFiniteWarning, match="went back from step 3 to step 0"):
        assert main([*arguments, "--check-every-steps", "3"]) == 2
    assert load_newest("run/checkpoints").step == 0


class Infinite:
    """A penalty that is always infinite."""

    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()

    def __call__(self, context):
        return context.logits("real") * math.inf


def test_a_run_that_skips_keeps_its_weights_finite(monkeypatch):
    monkeypatch.setitem(REGULARIZERS._factories, "infinite", Infinite)
    with pytest.warns(NonFiniteWarning, match="4 updates were left out before step"):
        main([*ARGUMENTS, "--on-non-finite", "skip", "--regularizer", "infinite", "--check-every-steps", "4"])
    run = Run.open("run")
    assert run.recipe.check_every_steps == 4
    assert all(value.isfinite().all() for value in states(run.load_trainer()).values())


@pytest.mark.parametrize("where", ["discriminator: nan", "generator: nan"])
def test_a_shared_pass_of_g_can_be_skipped_too(where):
    trainer, batches = poisoned(where, {2}, on_non_finite="skip", share_generator_forward=True)
    with pytest.warns(NonFiniteWarning, match="1 updates"):
        trainer.fit(batches, steps=4)
    assert all(value.isfinite().all() for value in states(trainer).values())


# --- batches that fail -----------------------------------------------------------------------------------


class OneBad:
    """Labelled pictures, one batch of which has no labels."""

    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 12

    def __getitem__(self, index):
        picture = torch.full((1, 28, 28), index / 12)
        return picture if index == self.bad else (picture, index % 10)


def test_a_bad_batch_is_still_the_next_one_after_the_emergency():
    preset = vanilla_mnist.replace(
        num_classes=10, batch_size=2, generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8])
    )

    def make(bad, *callbacks):
        loader = DataLoader(OneBad(bad), 2, collate_fn=collated)
        return preset(device="cpu", callbacks=callbacks), preset.batches(loader, device="cpu")

    with Checkpointer("checkpoints", every_steps=100) as checkpointer:
        trainer, batches = make(7, checkpointer)
        with pytest.raises(DataError, match="for a conditional model, got samples alone"):
            trainer.fit(batches, steps=9)
    whole, own = make(None)
    resumed, batches = make(None)
    load_newest("checkpoints").restore(resumed, batches)
    assert resumed.steps_done == 3
    whole.fit(own, steps=9)
    resumed.fit(batches, steps=9)
    assert all(torch.equal(value, states(resumed)[name]) for name, value in states(whole).items())


def collated(samples):
    """The default way, but for a batch that lacks a label."""
    if not all(isinstance(one, tuple) for one in samples):
        return torch.stack([one[0] if isinstance(one, tuple) else one for one in samples])
    return default_collate(samples)


class Failing:
    """Batches that end with an error, once."""

    known_finite = True

    def __init__(self, batches, after):
        self.batches, self.after, self.given = batches, after, 0

    def __iter__(self):
        batches = iter(self.batches)
        while self.given < self.after:
            self.given += 1
            yield next(batches)
        raise DataError("the disk is gone")

    def state_dict(self):
        return self.batches.state_dict()

    def load_state_dict(self, state):
        self.batches.load_state_dict(state)


@pytest.mark.parametrize(("discriminator_steps", "after", "whole"), [(1, 7, True), (2, 8, True), (2, 7, False)])
def test_a_run_whose_batches_fail_saves_what_is_whole_and_goes_on_from_there(
    discriminator_steps, after, whole, monkeypatch
):
    preset = POINTS.replace(steps=12, discriminator_steps=discriminator_steps)
    recipe = Recipe(preset=preset, device="cpu", checkpoint_every_steps=2)
    undisturbed = Run("undisturbed", recipe).train(progress=False)
    run, build = Run("run", recipe), Run._build
    monkeypatch.setattr(Run, "_build", lambda self: (lambda t, b: (t, Failing(b, after)))(*build(self)))
    with pytest.raises(DataError, match="the disk is gone"):
        run.train(progress=False)
    steps = after // discriminator_steps
    assert load_newest("run/checkpoints").step == (steps if whole else steps // 2 * 2)
    monkeypatch.setattr(Run, "_build", build)
    again = Run.open("run").resume(progress=False)
    assert all(torch.equal(value, states(again)[name]) for name, value in states(undisturbed).items())
