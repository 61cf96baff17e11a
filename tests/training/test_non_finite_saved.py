"""No checkpoint holds NaN or infinity, and after a failure of the batches the last whole step is saved."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from gankit.cli import main
from gankit.errors import (
    CheckpointWarning,
    DataError,
    NonFiniteError,
    NonFiniteWarning,
)
from gankit.presets import vanilla_mnist
from gankit.regularizers import REGULARIZERS
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import Checkpointer, load_checkpoint, load_newest
from tests.training.poisoned import EVERYWHERE, POINTS, poisoned, states


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
        state = load_checkpoint(folder).state["training"]
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


# --- the command -----------------------------------------------------------------------------------------


ARGUMENTS = ["train", "ring", "--steps", "12", "--no-progress", "--device", "cpu", "--out", "run", "--batch-size", "16"]


def test_a_run_that_raises_ends_with_one_sentence(capsys):
    arguments = [*ARGUMENTS, "--discriminator-optimizer", "sgd:lr=1e30", "--check-every-steps", "3"]
    with pytest.warns(NonFiniteWarning, match="weights must be finite to be written, .* none are written"):
        assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "gankit: error: " in error
    assert "must be finite, got" in error
    assert "continue" not in error


def test_a_run_that_rolls_back_has_a_checkpoint_to_begin_with(capsys):
    arguments = [*ARGUMENTS, "--discriminator-optimizer", "sgd:lr=1e30", "--on-non-finite", "rollback"]
    with (
        pytest.warns(NonFiniteWarning, match="none are written"),
        pytest.warns(NonFiniteWarning, match="step 3 to step 0"),
    ):
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
    with pytest.warns(NonFiniteWarning, match="4 updates were skipped before step"):
        main([*ARGUMENTS, "--on-non-finite", "skip", "--regularizer", "infinite", "--check-every-steps", "4"])
    run = Run.open("run")
    assert run.recipe.check_every_steps == 4
    assert all(value.isfinite().all() for value in states(run.load_trainer()).values())


# --- batches that fail -----------------------------------------------------------------------------------


class OneBad:
    """Labelled pictures, one of which has no label."""

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
    """Collate as torch does by default, or without labels if one is missing."""
    if not all(isinstance(one, tuple) for one in samples):
        return torch.stack([one[0] if isinstance(one, tuple) else one for one in samples])
    return default_collate(samples)


class Failing:
    """Batches that raise an error after some of them."""

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
