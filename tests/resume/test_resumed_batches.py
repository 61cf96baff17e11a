"""The place in the batches after a resume: restored exactly, or reported as lost in one warning."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import threading
import time
import warnings

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from gankit.data import StreamBatches
from gankit.errors import (
    DataError,
    InexactResumeWarning,
)
from gankit.training import Checkpointer, load_newest
from tests.resume.trainings import DIGITS, POINTS, assert_equal


class Noisy(Dataset):
    """Pictures with an augmentation that draws from torch's default generator."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((1, 28, 28), index / 80) + torch.rand(1, 28, 28) / 2


def resumed_on(make_batches, steps=9, stop=4, workers=False):
    """Train twice, once with an interruption; return both trainers."""
    trainers = []
    for interrupted in (False, True):
        torch.manual_seed(0)
        trainer, batches = DIGITS(device="cpu", log_every_steps=100), make_batches()
        with Checkpointer("checkpoints", every_steps=100) as checkpointer:
            trainer.fit(batches, steps=stop)
            if interrupted:
                checkpointer.save(trainer)
        if interrupted:
            torch.manual_seed(1)
            del trainer, batches
            if workers:
                gc.collect()
            trainer, batches = DIGITS(device="cpu", log_every_steps=100), make_batches()
            load_newest("checkpoints").restore(trainer, batches)
        trainers.append(trainer.fit(batches, steps=steps))
        del batches, trainer.feed
        if workers:  # end them now rather than in the middle of something else; collecting takes 0.1 s
            gc.collect()
    return trainers


STREAMS = {
    "a data set": lambda: DIGITS.batches(Noisy(), device="cpu", batch_size=8),
    "a DataLoader": lambda: DIGITS.batches(DataLoader(Noisy(), 8, shuffle=True), device="cpu"),
    "a DataLoader in order": lambda: DIGITS.batches(DataLoader(Noisy(), 8), device="cpu"),
    "a list": lambda: DIGITS.batches(list(torch.arange(40.0).div(40).view(5, 8, 1, 1, 1).expand(-1, -1, 1, 28, 28))),
    "a list as it is": lambda: list(torch.arange(40.0).div(40).view(5, 8, 1, 1, 1).expand(-1, -1, 1, 28, 28)),
}


@pytest.mark.parametrize("stop", [5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (4, 7))])
@pytest.mark.parametrize("stream", STREAMS)
def test_the_place_in_a_stream_is_found_again(stream, stop):
    whole, resumed = resumed_on(STREAMS[stream], stop=stop)
    assert_equal(whole.state_dict(), resumed.state_dict())


class Still(Noisy):
    """Pictures without an augmentation."""

    def __getitem__(self, index):
        return torch.full((1, 28, 28), index / 80)


def stateful_loader(dataset, workers):
    """torchdata's loader, which uses something of torch's that warns in newer versions."""
    module = pytest.importorskip("torchdata.stateful_dataloader")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module.StatefulDataLoader(dataset, 8, shuffle=True, num_workers=workers)


WRAPPED = {"through the preset": lambda loader: DIGITS.batches(loader, device="cpu"), "as it is": lambda loader: loader}


# in an epoch, at its end, in the next one
@pytest.mark.parametrize("stop", [5, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (4, 7))])
@pytest.mark.parametrize("dataset", [Still, Noisy])
@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.filterwarnings("ignore:a training that is resumed from this state", "ignore:training continues")
def test_the_place_in_torchdatas_loader_is_found_again(wrap, dataset, stop):
    whole, resumed = resumed_on(lambda: WRAPPED[wrap](stateful_loader(dataset(), 0)), stop=stop, steps=12)
    assert_equal(whole.state_dict(), resumed.state_dict())


# it does not save the generators of its workers, so that their augmentations begin anew
@pytest.mark.slow  # torch takes seconds to end workers whose epoch is not over
@pytest.mark.parametrize("stop", [4, 5, 7])
@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.filterwarnings("ignore:a training that is resumed from this state", "ignore:training continues")
def test_the_place_in_torchdatas_loader_with_workers_is_found_again(wrap, stop):
    whole, resumed = resumed_on(lambda: WRAPPED[wrap](stateful_loader(Still(), 2)), stop=stop, steps=12, workers=True)
    assert_equal(whole.state_dict(), resumed.state_dict())


class Killing:
    """Kills a worker of a loader, as the system does where memory runs out."""

    every = 7

    def __call__(self, trainer):
        if trainer.steps_done == 7:
            self.at = time.monotonic()
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)


@pytest.mark.parametrize("wrap", ["through the preset", pytest.param("as it is", marks=pytest.mark.slow)])
# where the loader has no state, the place in it is lost
@pytest.mark.filterwarnings("ignore:a training that is resumed from this state", "ignore:training continues")
# torch may be interrupted while it opens a file, and leave it open
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_is_reported_and_leaves_a_checkpoint_to_continue_from(wrap):
    pictures = [torch.full((1, 28, 28), index / 1000) for index in range(400)]

    def make(workers, *callbacks):
        torch.manual_seed(0)
        loader = DataLoader(pictures, 8, shuffle=True, num_workers=workers)
        return DIGITS(device="cpu", callbacks=callbacks), WRAPPED[wrap](loader)

    killing = Killing()
    with Checkpointer("checkpoints", every_steps=3) as checkpointer:
        trainer, batches = make(2, checkpointer, killing)
        with pytest.raises(DataError, match="workers of a DataLoader must stay alive while it is in use, got ") as told:
            trainer.fit(batches, steps=1000)
    assert time.monotonic() - killing.at < 30
    assert isinstance(told.value.__cause__, (RuntimeError, ConnectionError, EOFError))
    steps_done, saved_last = trainer.steps_done, trainer.is_between_steps
    del trainer, batches, told
    gc.collect()  # ends the other worker now
    found = load_newest("checkpoints")
    assert found.step >= 6
    if wrap == "through the preset" and saved_last:
        assert found.step == steps_done  # the emergency's: no multiple of 3 is needed
    resumed, batches = make(0)
    found.restore(resumed, batches)
    if wrap == "through the preset":
        whole, own = make(0)
        whole.fit(own, steps=found.step + 9)
        resumed.fit(batches, steps=found.step + 9)
        assert_equal(whole.state_dict(), resumed.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(10))
# torch's handler may raise while a file is being opened somewhere, which then nobody closes
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_worker_that_is_killed_at_any_moment_is_reported(trial):
    loader = DataLoader([torch.full((1, 28, 28), index / 4000) for index in range(4000)], 8, num_workers=2)
    trainer, batches = DIGITS(device="cpu"), DIGITS.batches(loader, device="cpu")
    trainer.fit(batches, steps=2)
    worker = random.Random(trial).choice(multiprocessing.active_children())
    killing = threading.Timer(random.Random(trial).uniform(0, 0.5), os.kill, [worker.pid, signal.SIGKILL])
    killing.start()
    started = time.monotonic()
    with pytest.raises(DataError, match="the workers of a DataLoader must stay alive while it is in use"):
        trainer.fit(batches, steps=400)
    assert time.monotonic() - started < 30


@pytest.mark.slow  # torch takes seconds to end workers whose epoch is not over
def test_the_place_in_the_batches_of_workers_is_found_again():
    loader = lambda: DataLoader(Noisy(), 8, shuffle=True, num_workers=2)  # noqa: E731
    whole, resumed = resumed_on(lambda: DIGITS.batches(loader(), device="cpu"), stop=7, workers=True)
    assert_equal(whole.state_dict(), resumed.state_dict())


class StatefulLoader:
    """What torchdata's StatefulDataLoader is to us: its `state_dict` tells the place in the epoch."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        while self.at < 5:
            self.at += 1
            yield torch.linspace(0, self.at / 10, 8 * 28 * 28).view(8, 1, 28, 28)
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


@pytest.mark.parametrize("wrap", [lambda loader: loader, lambda loader: DIGITS.batches(loader, device="cpu")])
def test_a_stateful_loader_is_asked(wrap):
    whole, resumed = resumed_on(lambda: wrap(StatefulLoader()), stop=7)
    assert_equal(whole.state_dict(), resumed.state_dict())


class Stream(IterableDataset):
    def __iter__(self):
        yield from torch.rand(40, 1, 28, 28)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DataLoader(Noisy(), 8, shuffle=True), "place in the batches is lost, because DataLoader has no state"),
        (lambda: StreamBatches(DataLoader(Stream(), 8)), "because a DataLoader over an IterableDataset has no"),
        (
            lambda: StreamBatches(DataLoader(TensorDataset(torch.rand(40, 1, 28, 28)), 8, sampler=MySampler())),
            "because a DataLoader with a MySampler has no",
        ),
    ],
)
def test_what_cannot_be_restored_is_said_when_it_is_saved_and_when_it_is_resumed(make, says):
    with pytest.warns(InexactResumeWarning, match=says) as caught:
        resumed_on(make)
    saved, resumed = (str(one.message) for one in caught)
    assert saved.startswith("a training that is resumed from this state does not continue exactly: ")
    assert resumed.startswith("training continues from step 4, but not as if it had never stopped: ")


class MySampler(torch.utils.data.Sampler):
    def __iter__(self):
        yield from range(40)

    def __len__(self):
        return 40


def test_other_versions_are_said(monkeypatch):
    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        POINTS(device="cpu", callbacks=[checkpointer]).fit(POINTS.batches(device="cpu"), steps=1)
    monkeypatch.setattr(torch, "__version__", "9.0")
    with pytest.warns(InexactResumeWarning, match=r"it was saved with torch \d.*, this is 9.0"):
        load_newest("checkpoints").restore(POINTS(device="cpu"), POINTS.batches(device="cpu"))
