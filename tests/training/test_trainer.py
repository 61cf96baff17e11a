"""`fit`, `stop`, and what the trainer refuses."""

from __future__ import annotations

import itertools
from typing import ClassVar

import pytest
from torch import nn

from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.losses import NonSaturating
from gankit.regularizers import R1
from tests.training.observing import same, weights


def test_fit_reads_the_metrics_every_log_every_steps(make_trainer, batches):
    trainer = make_trainer(log_every_steps=4).fit(batches, steps=10)
    assert [row["step"] for row in trainer.history] == [4, 8, 10]
    assert all(isinstance(value, (int, float)) for row in trainer.history for value in row.values())


def test_fit_counts_the_total_and_goes_on_in_the_middle_of_an_epoch(make_trainer, batches):
    at_once = make_trainer().fit(batches, steps=7)
    in_two = make_trainer().fit(batches, steps=3)
    assert in_two.steps_done == 3
    in_two.fit(batches, steps=7).fit(batches, steps=7)
    assert in_two.steps_done == 7
    assert same(weights(at_once.generator), weights(in_two.generator))


def test_fit_takes_an_endless_iterator(make_trainer, batches):
    assert make_trainer().fit(itertools.cycle(batches), steps=9).steps_done == 9


def test_fit_refuses_steps_in_the_past(make_trainer, batches):
    trainer = make_trainer().fit(batches, steps=3)
    with pytest.raises(BadValueError, match="3 are already done, so it must be 3 or more, got 2"):
        trainer.fit(batches, steps=2)


def test_callbacks_are_called_every_so_often(make_trainer, batches):
    class Note:
        every = 3
        seen: ClassVar[list] = []

        def __call__(self, trainer):
            self.seen.append(trainer.steps_done)

    make_trainer(callbacks=[Note()]).fit(batches, steps=10)
    assert Note.seen == [3, 6, 9]


def test_stop_ends_fit_after_the_step(make_trainer, batches):
    class Stop:
        every = 5

        def __call__(self, trainer):
            trainer.stop()

    trainer = make_trainer(callbacks=[Stop()]).fit(batches, steps=100)
    assert trainer.steps_done == 5
    trainer.fit(batches, steps=8)
    assert trainer.steps_done == 8


def test_stop_before_fit_ends_it_at_once(make_trainer, batches):
    trainer = make_trainer()
    trainer.stop()
    assert trainer.fit(batches, steps=5).steps_done == 0
    assert trainer.fit(batches, steps=5).steps_done == 5


# --- what is refused -------------------------------------------------------------------------------------


def test_step_wants_one_batch_a_discriminator_step(make_trainer, batches):
    with pytest.raises(BadValueError, match="each of the 2 discriminator_steps, got 1"):
        make_trainer(discriminator_steps=2).step(batches[0])
    assert "generator_loss" in make_trainer(discriminator_steps=2).step(*batches[:2])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"loss": "minimax"}, BadArgumentsError, "names are for presets and LOSSES.build"),
        ({"discriminator_steps": 0}, BadValueError, "discriminator_steps must be above 0, got 0"),
        ({"discriminator_warmup_steps": -1}, BadValueError, "discriminator_warmup_steps must be 0 or more"),
        ({"averaging_decay": 1.0}, BadValueError, r"averaging_decay must be in \[0, 1\), got 1.0"),
        ({"max_gradient_norm": float("nan")}, BadValueError, "max_gradient_norm must be above 0, got nan"),
        ({"precision": "float16"}, BadValueError, "precision must be one of float32, bfloat16, tf32, got 'float16'"),
        ({"log_every_steps": 0}, BadValueError, "log_every_steps must be above 0"),
        ({"generator_optimizer": "adam"}, BadArgumentsError, "must be a torch.optim.Optimizer over the generator's"),
        ({"regularizers": [object()]}, BadArgumentsError, "regularizer 'object' must have"),
        ({"regularizers": [R1(), R1()]}, BadValueError, "two regularizers are called 'r1'"),
        ({"generator": object()}, BadArgumentsError, "generator must be a torch.nn.Module"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else "",
)
def test_a_bad_argument_is_refused_in_one_sentence(make_trainer, options, error, says):
    if isinstance(options.get("generator"), nn.Module) or "generator" not in options:
        with pytest.raises(error, match=says):
            make_trainer(**options)
    else:
        whole = make_trainer()
        with pytest.raises(error, match=says):
            type(whole)(
                options["generator"],
                whole.discriminator,
                whole.loss,
                latent=whole.latent,
                generator_optimizer=whole.generator_optimizer,
                discriminator_optimizer=whole.discriminator_optimizer,
            )


def test_a_loss_that_reduces_is_refused(make_trainer, batches):
    class Mean(NonSaturating):
        def generator_loss(self, fake_logits, real_logits=None):
            return super().generator_loss(fake_logits).mean()

    with pytest.raises(ShapeError, match=r"generator_loss must have one value per .* \(6,\), got \(\); leave the mean"):
        make_trainer(loss=Mean()).step(batches[0])
