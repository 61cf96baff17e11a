"""After NaN or infinity, training goes back to a checkpoint and continues with half the learning rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    NonFiniteError,
    NonFiniteWarning,
)
from gankit.runs import Recipe
from gankit.spec import Spec
from gankit.training import Checkpointer, MetricsLog, load_newest
from gankit.training.step import learning_rates
from tests.training.poisoned import POINTS, Poisoned, states


def rates(trainer):
    return [o.param_groups[0]["lr"] for o in (trainer.generator_optimizer, trainer.discriminator_optimizer)]


class Cured(Poisoned):
    """A loss that is not finite in one step, until the learning rate is low enough."""

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
        "training went back from step 12 to step 9, and continues with half the learning rates: the weights must be "
        "finite, got nan at step 12; lower the learning rates, or set on_non_finite"
    ]
    assert trainer.steps_done == 20
    assert rates(trainer) == [0.5e-3, 0.5e-3]
    assert trainer.watch.rollbacks == 1
    assert all(value.isfinite().all() for value in states(trainer).values())


def test_after_a_rollback_training_equals_one_continued_from_there_with_half_the_rates():
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


def test_a_sixth_rollback_is_an_error():
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


def test_a_rollback_removes_the_repeated_steps_from_the_log():
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


def test_rolling_back_needs_a_checkpointer():
    with pytest.raises(BadArgumentsError, match="needs a Checkpointer among the callbacks, got none"):
        POINTS(device="cpu", on_non_finite="rollback").fit(POINTS.batches(device="cpu"), steps=1)


def test_rolling_back_without_checkpoints_is_refused_in_a_recipe():
    with pytest.raises(BadValueError, match="checkpoint_every_steps must be above 0 with on_non_finite='rollback'"):
        Recipe(preset=POINTS.replace(on_non_finite="rollback"), checkpoint_every_steps=0)
