from __future__ import annotations

import copy
import io
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from gankit.errors import GankitWarning, MissingExtraError, OutputExistsError
from gankit.training import Checkpointer, MetricsLog, ProgressBar, TensorBoardLog, load_newest


def test_the_metrics_log_writes_one_object_a_line(make_trainer, batches):
    trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=2)])
    trainer.fit(batches, steps=6)
    rows = [json.loads(line) for line in Path("metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[-1] == trainer.read_metrics()


def test_a_value_that_is_not_finite_becomes_null(make_trainer, batches):
    trainer = make_trainer()
    trainer.step(batches[0])
    trainer.metrics["generator_loss"] = torch.tensor(float("inf"))
    MetricsLog("metrics.jsonl")(trainer)
    assert json.loads(Path("metrics.jsonl").read_text())["generator_loss"] is None


def test_tensorboard_gets_every_metric_at_its_step(make_trainer, batches, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.folder = folder
            assert purge_step is None

        def add_scalar(self, name, value, step):
            written.append((self.folder, name, value, step))

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    trainer = make_trainer(callbacks=[TensorBoardLog("events", every=3)]).fit(batches, steps=6)
    readings = trainer.read_metrics()
    assert {step for *_, step in written} == {3, 6}
    last = {name: value for _, name, value, step in written if step == 6}
    assert last == {name: value for name, value in readings.items() if name != "step"}


def test_without_tensorboard_it_names_the_extra(make_trainer, batches, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gankit\[tensorboard\]'"):
        make_trainer(callbacks=[TensorBoardLog("events", every=1)]).fit(batches, steps=1)


# --- going on, and files of other trainings --------------------------------------------------------------


def logged(path="metrics.jsonl"):
    return [json.loads(line)["step"] for line in Path(path).read_text().splitlines()]


class Dies:
    """A callback that ends the training at a step, as Ctrl-C does."""

    every = 1

    def __init__(self, at):
        self.at = at

    def __call__(self, trainer):
        if trainer.steps_done == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("end", ["", '{"step": 8, "generat'], ids=["whole", "cut off"])
def test_a_resumed_log_has_every_step_once(end, make_trainer, batches):
    with Checkpointer("checkpoints", every_steps=3) as checkpointer:
        trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=2), checkpointer, Dies(8)])
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(batches, steps=10)
    with Path("metrics.jsonl").open("a") as file:
        file.write(end)
    assert logged()[:4] == [2, 4, 6, 8] if not end else True
    resumed = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=2)])
    load_newest("checkpoints").restore(resumed, batches)
    resumed.fit(batches, steps=6)
    assert logged() == [2, 4, 6]
    resumed.fit(batches, steps=10)
    assert logged() == [2, 4, 6, 8, 10]


def test_a_new_log_of_the_same_training_continues_the_file(make_trainer, batches):
    trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=2)]).fit(batches, steps=4)
    trainer.callbacks[:] = [MetricsLog("metrics.jsonl", every=2)]
    trainer.fit(batches, steps=6)
    assert logged() == [2, 4, 6]


def test_a_state_that_is_loaded_into_the_same_trainer_cuts_the_log(make_trainer, batches):
    trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=1)]).fit(batches, steps=2)
    state = copy.deepcopy(trainer.state_dict())
    trainer.fit(batches, steps=4)
    trainer.load_state_dict(state)
    trainer.fit(batches, steps=3)
    assert logged() == [1, 2, 3]


def a_new_one(make_trainer, batches):
    return make_trainer(log_every_steps=2)


def one_that_was_resumed(make_trainer, batches):
    trainer = make_trainer(log_every_steps=2, seed=5)
    trainer.load_state_dict(make_trainer(log_every_steps=2, seed=5).fit(batches, steps=2).state_dict())
    return trainer


@pytest.mark.parametrize("trainer", [a_new_one, one_that_was_resumed])
def test_the_log_of_another_training_is_refused_before_anything_is_changed(trainer, make_trainer, batches):
    make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=2)]).fit(batches, steps=4)
    content = Path("metrics.jsonl").read_text()
    other = trainer(make_trainer, batches)
    steps_done = other.steps_done
    other.callbacks.append(MetricsLog("metrics.jsonl", every=2))
    with pytest.raises(
        OutputExistsError, match=r"got 'metrics\.jsonl' with lines of another training; name another file"
    ):
        other.fit(batches, steps=6)
    assert (Path("metrics.jsonl").read_text(), other.steps_done) == (content, steps_done)
    with pytest.raises(OutputExistsError, match="lines of another training"):
        other.callbacks[0](other)  # in a loop of one's own
    assert Path("metrics.jsonl").read_text() == content


@pytest.mark.parametrize("content", ["a diary\n", "a diary", '[{"step": 3}]\n', '{"loss": 3}\n', "\xff\n"])
def test_a_file_with_something_else_is_no_log(content, make_trainer, batches):
    Path("notes.jsonl").write_bytes(content.encode("latin-1"))
    with pytest.raises(OutputExistsError, match=r"got 'notes\.jsonl' with something else in line 1"):
        make_trainer(callbacks=[MetricsLog("notes.jsonl")]).fit(batches, steps=1)
    assert Path("notes.jsonl").read_bytes() == content.encode("latin-1")


def test_tensorboard_hides_what_a_resumed_training_repeats(make_trainer, batches, monkeypatch):
    opened = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            opened.append(purge_step)
            Path(folder).mkdir(exist_ok=True)
            Path(folder, "events.out.tfevents.1").touch()

        def add_scalar(self, *_):
            pass

        def flush(self):
            pass

        close = flush

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    trainer = make_trainer(callbacks=[TensorBoardLog("events", every=1)]).fit(batches, steps=2)
    state = copy.deepcopy(trainer.state_dict())
    trainer.fit(batches, steps=4)
    trainer.load_state_dict(state)
    trainer.fit(batches, steps=5)
    assert opened == [None, 3]
    resumed = make_trainer(callbacks=[TensorBoardLog("events", every=2)])
    resumed.load_state_dict(state)
    resumed.fit(batches, steps=4)
    assert opened == [None, 3, 3]
    with pytest.warns(GankitWarning, match="mix this training with another one that has written to 'events'"):
        make_trainer(callbacks=[TensorBoardLog("events", every=1)]).fit(batches, steps=1)


# --- the last step ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_the_last_step_of_a_fit_has_a_line_and_a_reading(steps, make_trainer, batches):
    trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=4)], log_every_steps=4)
    trainer.fit(batches, steps=steps)
    wanted = sorted({*range(4, steps + 1, 4), steps})
    assert logged() == [row["step"] for row in trainer.history] == wanted
    trainer.fit(batches, steps=steps)  # nothing to do
    assert logged() == [row["step"] for row in trainer.history] == wanted


class StopsAt:
    """A callback that asks the training to stop, as a signal does."""

    every = 1

    def __init__(self, at):
        self.at = at

    def __call__(self, trainer):
        if trainer.steps_done == self.at:
            trainer.stop()


@pytest.mark.parametrize("is_new", [False, True], ids=["the same trainer", "a resumed one"])
@pytest.mark.parametrize("at", [3, 4, 6])
def test_an_interruption_leaves_no_trace_in_log_and_history(at, is_new, make_trainer, batches):
    whole = make_trainer(callbacks=[MetricsLog("whole.jsonl", every=4)], log_every_steps=4).fit(batches, steps=10)
    trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=4), StopsAt(at)], log_every_steps=4)
    trainer.fit(batches, steps=10)
    assert logged()[-1] == trainer.history[-1]["step"] == at
    if is_new:
        state, data = copy.deepcopy((trainer.state_dict(), trainer.data_state()))
        trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=4)], log_every_steps=4)
        trainer.load_state_dict(state)
        trainer.load_data_state(batches, data)
    trainer.fit(batches, steps=10)
    assert trainer.history == whole.history
    assert Path("metrics.jsonl").read_text() == Path("whole.jsonl").read_text()


def test_a_run_that_continues_from_a_checkpoint_has_the_lines_of_an_uninterrupted_one(make_trainer, batches):
    trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=4)], log_every_steps=4).fit(batches, steps=6)
    resumed = make_trainer(log_every_steps=4)
    resumed.load_state_dict(copy.deepcopy(trainer.state_dict()))
    log = MetricsLog("metrics.jsonl", every=4)
    log.resume(resumed)
    assert logged() == [4, 6]
    resumed.callbacks.append(log)
    resumed.fit(batches, steps=10)
    assert logged() == [4, 8, 10]


def test_the_progress_bar_reaches_the_last_step(make_trainer, batches):
    screen = io.StringIO()
    with ProgressBar(7, every=5, file=screen) as bar:
        make_trainer(callbacks=[bar]).fit(batches, steps=7)
    assert "7/7" in screen.getvalue()


# --- long trainings --------------------------------------------------------------------------------------


def test_a_long_log_keeps_the_lines_that_the_history_leaves_out(monkeypatch, make_trainer, batches):
    monkeypatch.setattr("gankit.training.step.metrics.MOST_READINGS", 4)
    monkeypatch.setattr("gankit.training.callbacks.MOST_READINGS", 4)
    trainer = make_trainer(callbacks=[MetricsLog("metrics.jsonl", every=1)], log_every_steps=1).fit(batches, steps=11)
    assert [row["step"] for row in trainer.history] == [4, 8, 11]
    resumed = make_trainer(log_every_steps=1)
    resumed.load_state_dict(trainer.state_dict())
    MetricsLog("metrics.jsonl", every=1).resume(resumed)
    assert logged() == list(range(1, 12))


class Terminal(io.StringIO):
    """A terminal that may be closed while something is written to it."""

    is_there = True

    def write(self, text):
        if not self.is_there:
            raise OSError("the terminal is closed")
        return super().write(text)


def in_a_bar_of(screen):
    with ProgressBar(7, file=screen):
        screen.is_there = False
        raise KeyError("first")


def test_a_progress_bar_on_a_closed_terminal_does_not_hide_the_first_error():
    with pytest.raises(KeyError, match="first"):
        in_a_bar_of(Terminal())
