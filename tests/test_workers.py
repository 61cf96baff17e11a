"""A `DataLoader` that has lost a worker is reported in one sentence, and its other workers are ended."""

from __future__ import annotations

import pytest
import torch

import gankit.workers
from gankit.errors import DataError
from gankit.presets import vanilla_mnist
from gankit.spec import Spec
from gankit.workers import WORKER_ERRORS, end_workers_if_lost, lost_worker_error, report_lost_workers

DIGITS = vanilla_mnist.replace(generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8]), batch_size=16)
KILLED = "DataLoader worker (pid 1) is killed by signal: Killed. "


def failing(error):
    yield 1
    raise error


def _try_get_data(error):
    """Raise an error in a function of the same name as the method of torch's loader that gets a worker's batch."""
    raise error


def elsewhere(error):
    raise error


@pytest.mark.parametrize("kind", [ConnectionResetError, EOFError])
@pytest.mark.parametrize(("function", "is_lost"), [(_try_get_data, True), (elsewhere, False)])
def test_a_broken_connection_reports_a_lost_worker_only_inside_the_loader(kind, function, is_lost):
    with pytest.raises(kind) as caught:
        function(kind())
    lost = lost_worker_error(caught.value)
    assert (lost is not None) == is_lost
    if lost is not None:
        assert f"a DataLoader worker that is gone ({kind.__name__})" in str(lost)


@pytest.mark.parametrize("kind", WORKER_ERRORS)
def test_another_error_passes_unchanged(kind):
    with pytest.raises(kind, match="^something else$"):
        list(report_lost_workers(failing(kind("something else"))))


def test_a_lost_worker_is_reported_with_what_torch_raised_as_its_cause():
    killed = RuntimeError(KILLED)
    batches = report_lost_workers(failing(killed))
    assert next(batches) == 1
    with pytest.raises(DataError, match="is killed by signal: Killed; the system kills them") as caught:
        next(batches)
    assert caught.value.__cause__ is killed
    assert lost_worker_error(caught.value) is caught.value  # it is recognised again, and not wrapped twice


def test_workers_are_left_alone_after_another_error():
    released = []
    assert end_workers_if_lost(RuntimeError("something else"), lambda: released.append(1)) is None
    assert not released


def test_a_signal_that_arrives_while_a_lost_worker_is_handled_is_handled_too(monkeypatch):
    asked = []

    def interrupted(error):
        asked.append(error)
        if len(asked) == 1:
            raise RuntimeError("DataLoader worker (pid 2) is killed by signal: Killed. ")
        return lost_worker_error(error)

    class Losing:
        def __iter__(self):
            yield torch.zeros(8, 1, 28, 28)
            raise RuntimeError("DataLoader worker (pid(s) 1) exited unexpectedly")

    monkeypatch.setattr(gankit.workers, "lost_worker_error", interrupted)
    trainer = DIGITS(device="cpu")
    with pytest.raises(DataError, match=r"while it is in use, got DataLoader worker \(pid 2\) is killed"):
        trainer.fit(Losing(), steps=5)
    assert trainer.steps_done == 1
