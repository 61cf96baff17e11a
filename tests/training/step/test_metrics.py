"""The named results of the steps, and how they are read."""

from __future__ import annotations

import io

import pytest
import torch

from gankit.training.step.metrics import Metrics
from tests.training.operators import READS, Operators

CPU = torch.device("cpu")


def test_a_result_that_a_step_does_not_have_keeps_its_value():
    metrics = Metrics()
    metrics.update({"generator_loss": torch.tensor(1.0), "penalty/r1": torch.tensor(2.0)})
    metrics.update({"generator_loss": torch.tensor(3.0)})
    assert metrics.read(2) == {"step": 2, "generator_loss": 3.0, "penalty/r1": 2.0}


def test_an_update_leaves_the_dictionary_that_was_returned_before_as_it_was():
    metrics = Metrics()
    metrics.update({"a": torch.tensor(1.0)})
    before = metrics.newest
    metrics.update({"a": torch.tensor(2.0)})
    assert before["a"] == 1.0


def test_all_results_are_read_in_one_transfer_and_once_per_step():
    metrics = Metrics()
    metrics.update({name: torch.tensor(1.0) for name in "abc"})
    with Operators() as operators:
        first = metrics.read(1)
        assert metrics.read(1) == first
    assert operators.counts[torch.ops.aten.stack.default] == 1
    assert not READS & operators.counts.keys()
    metrics.update({"a": torch.tensor(5.0)})
    assert metrics.read(2) == {"step": 2, "a": 5.0, "b": 1.0, "c": 1.0}


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_replicas_are_read_as_mean_and_standard_deviation(replicas):
    values = torch.randn(replicas, dtype=torch.float64)
    metrics = Metrics()
    metrics.update({"loss": values})
    reading = metrics.read(3)
    assert reading.keys() == {"step", "loss", "loss/sd"}
    assert reading["loss"] == pytest.approx(values.mean().item())
    assert reading["loss/sd"] == (pytest.approx(values.std().item()) if replicas > 1 else 0.0)


def test_without_a_step_there_is_only_its_number():
    assert Metrics().read(0) == {"step": 0}


def test_a_saved_state_gives_the_same_reading_and_a_history_of_its_own():
    first, second = Metrics(), Metrics()
    first.update({"loss": torch.tensor([1.0, 2.0])})
    first.history.append(first.read(4))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.update({"other": torch.tensor(0.0)})
    second.read(4)  # of another training
    second.load_state_dict(torch.load(file, weights_only=True), CPU)
    assert second.read(4) == first.read(4)
    assert second.history == first.history
    second.history.append({})
    assert len(first.history) == 1


# --- the history -----------------------------------------------------------------------------------------


def recorded(steps, every=1):
    metrics = Metrics()
    for step in steps:
        metrics.update({"loss": torch.tensor(float(step))})
        metrics.record(step, every)
    return [row["step"] for row in metrics.history]


def test_a_history_has_a_row_for_every_so_many_steps_and_the_newest_one():
    assert recorded([10, 20, 25], 10) == [10, 20, 25]
    assert recorded([10, 20, 25, 30], 10) == [10, 20, 30]
    assert recorded([10, 20, 20], 10) == [10, 20]
    assert recorded([3, 5], 10) == [5]


@pytest.mark.parametrize("every", [1, 10])
def test_a_long_history_is_thinned_and_keeps_its_ends(monkeypatch, every):
    monkeypatch.setattr("gankit.training.step.metrics.MOST_READINGS", 8)
    steps = range(every, 100 * every + 1, every)
    lengths = [len(recorded(steps[:count], every)) for count in range(1, 101)]
    assert max(lengths) <= 9
    assert min(lengths[8:]) >= 4
    assert recorded(steps, every) == [*range(16 * every, 97 * every, 16 * every), 100 * every]


def test_a_thinned_history_does_not_depend_on_an_interruption(monkeypatch):
    monkeypatch.setattr("gankit.training.step.metrics.MOST_READINGS", 8)
    regular = [*range(3, 100, 3)]
    for end in range(1, 99):
        assert recorded(sorted({*regular, end}), 3) == recorded(regular, 3)


def test_a_reading_belongs_to_whoever_reads_it():
    metrics = Metrics()
    metrics.update({"loss": torch.tensor(0.5)})
    metrics.read(3)["mine"] = 1.0
    assert metrics.read(3) == {"step": 3, "loss": 0.5}
