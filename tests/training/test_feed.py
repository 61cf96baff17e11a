"""Batches that run out, that are empty, or that hold NaN."""

from __future__ import annotations

import pytest

from gankit.errors import DataError


@pytest.mark.parametrize("empty", [[], iter(())])
def test_fit_refuses_batches_that_are_empty(make_trainer, empty):
    with pytest.raises(DataError, match="not empty"):
        make_trainer().fit(empty, steps=1)


def test_fit_says_when_a_generator_of_batches_runs_out(make_trainer, batches):
    trainer = make_trainer()
    with pytest.raises(DataError, match="iterated over again"):
        trainer.fit((batch for batch in batches), steps=10)
    assert trainer.steps_done == 4


def test_nan_in_a_stream_is_reported_with_the_logs(make_trainer, batches):
    batches[2][0, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="finite, got NaN or infinite values in the 4 steps before step 4"):
        make_trainer(log_every_steps=4).fit(batches, steps=8)
