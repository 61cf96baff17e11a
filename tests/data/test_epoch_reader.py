"""The position in batches from outside gankit is saved and restored if their source allows it.

That training resumes exactly with each kind of source is tested in `tests/resume`.
"""

from __future__ import annotations

import gc
import json
import random

import numpy
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from gankit.data.epoch_reader import EpochReader
from gankit.errors import BadArgumentsError, InexactResumeWarning
from gankit.training.saving.tree import flatten, unflatten

DATA = TensorDataset(torch.arange(12.0))
SOURCES = {
    "list": lambda: [[torch.tensor([float(number)])] for number in range(6)],
    "loader": lambda: DataLoader(DATA, 2),
    "shuffling loader": lambda: DataLoader(DATA, 2, shuffle=True),
    "loader with a generator": lambda: DataLoader(DATA, 2, shuffle=True, generator=torch.Generator().manual_seed(3)),
    "sampler with a generator": lambda: DataLoader(
        DATA, 2, sampler=RandomSampler(DATA, generator=torch.Generator().manual_seed(3))
    ),
}


def numbers(batches):
    return [batch[0].tolist() for batch in batches]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("epoch", "position"), [(0, 1), (0, 4), (1, 2)])
def test_the_rest_of_the_epoch_and_the_next_one_follow_a_restored_position(source, epoch, position):
    torch.manual_seed(5)
    reader = EpochReader(SOURCES[source]())
    for _ in range(epoch):
        list(reader)
    current = iter(reader)
    for _ in range(position):
        next(current)
    state, default = reader.state_dict(), torch.get_rng_state()
    expected = [numbers(current), numbers(reader)]
    resumed = EpochReader(SOURCES[source]())
    resumed.load_state_dict(state)
    torch.set_rng_state(default)
    assert [numbers(resumed), numbers(resumed)] == expected


def test_a_batch_that_could_not_be_used_is_read_again():
    reader = EpochReader(["a", "b", "c"])
    batches = iter(reader)
    next(batches)
    next(batches)
    reader.uncount()
    resumed = EpochReader(["a", "b", "c"])
    resumed.load_state_dict(reader.state_dict())
    assert list(resumed) == ["b", "c"]


# --- every kind of loader, and of random numbers, in its second epoch ----------------------------------------


class Random(Dataset):
    """Samples that draw random numbers, whose generators are of one kind."""

    def __init__(self, kind="none"):
        own = {"torch": torch.Generator().manual_seed(1)}
        own |= {"numpy": numpy.random.default_rng(1), "legacy": numpy.random.RandomState(1), "python": random.Random(1)}
        self.transforms = [lambda: self.draw(own)]
        self.kind = kind

    def draw(self, own):
        draws = {
            "none": lambda: 0.0,
            "torch's": lambda: float(torch.rand(())),
            "numpy's": numpy.random.rand,
            "Python's": random.random,
            "own torch": lambda: float(torch.rand((), generator=own["torch"])),
            "own numpy": lambda: own["numpy"].random(),
            "own legacy numpy": lambda: own["legacy"].rand(),
            "own Python": lambda: own["python"].random(),
        }
        return draws[self.kind]()

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor([index + self.transforms[0]() / 2])


KINDS = ["none", "torch's", "numpy's", "Python's", "own torch", "own numpy", "own legacy numpy", "own Python"]
WEIGHTS = torch.arange(1.0, 13.0)
LOADERS = {
    "shuffling": lambda data: DataLoader(data, 2, shuffle=True),
    "weighted": lambda data: DataLoader(data, 2, sampler=WeightedRandomSampler(WEIGHTS, 12)),
    "with replacement": lambda data: DataLoader(data, 2, sampler=RandomSampler(data, True, 60)),
    "a subset": lambda data: DataLoader(data, 2, sampler=SubsetRandomSampler(range(10))),
    "a list of indices": lambda data: DataLoader(data, 2, sampler=[3, 1, 4, 0, 5, 9]),
    "batch sampler": lambda data: DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 2, True)),
    "batch sampler with a generator": lambda data: DataLoader(
        data, batch_sampler=BatchSampler(RandomSampler(data, generator=torch.Generator().manual_seed(3)), 2, True)
    ),
    "batch sampler of a rank": lambda data: DataLoader(
        data, batch_sampler=BatchSampler(DistributedSampler(data, 2, 1, seed=3), 2, True)
    ),
    "without batches": lambda data: DataLoader(data, None, shuffle=True),
}


def seed_everything(seed):
    torch.manual_seed(seed)
    numpy.random.seed(seed)
    random.seed(seed)


def stopped_and_resumed(make, taken=8, count=6, workers=False):
    """Return the batches after `taken` ones, read on and read after a resume in which every seed is another."""

    def endless(reader):
        while True:
            yield from reader

    seed_everything(0)
    reader = EpochReader(make())
    batches = endless(reader)
    for _ in range(taken):
        next(batches)
    node, tensors = flatten(reader.state_dict())
    state = unflatten(json.loads(json.dumps(node)), {name: one.clone() for name, one in tensors.items()})
    default = torch.get_rng_state()
    expected = [next(batches) for _ in range(count)]
    del batches, reader
    if workers:
        gc.collect()  # ends them now
    seed_everything(1)
    resumed = EpochReader(make())
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state  # a state that is saved before anything is read
    torch.set_rng_state(default)
    batches = endless(resumed)
    got = [next(batches) for _ in range(count)]
    return torch.stack(expected), torch.stack(got), resumed


@pytest.mark.parametrize("loader", LOADERS)
def test_each_order_is_continued_in_the_second_epoch(loader):
    taken = {"without batches": 15, "a list of indices": 4}.get(loader, 8)
    expected, got, reader = stopped_and_resumed(lambda: LOADERS[loader](Random()), taken)
    assert torch.equal(expected, got)
    assert reader.not_restorable is None


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_random_numbers_is_continued_in_the_second_epoch(kind):
    expected, got, reader = stopped_and_resumed(lambda: LOADERS["shuffling"](Random(kind)))
    assert torch.equal(expected, got)
    assert reader.not_restorable is None


class Counting:
    """A loader that saves its own place, as torchdata's does, over a data set that draws random numbers."""

    def __init__(self, dataset):
        self.dataset, self.at = dataset, 0

    def __iter__(self):
        while self.at < 6:
            self.at += 1
            yield self.dataset[self.at]
        self.at = 0

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loader_with_a_state_continues_each_kind_of_random_numbers_too(kind):
    expected, got, _ = stopped_and_resumed(lambda: Counting(Random(kind)))
    assert torch.equal(expected, got)


class Reversed(Sampler):
    def __iter__(self):
        return iter([[1, 0], [3, 2]])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DataLoader(DATA, batch_sampler=Reversed()), "because a DataLoader with a Reversed has no state_dict"),
        (lambda: DataLoader(DATA, 2, num_workers=1, in_order=False), "because a DataLoader with in_order=False has no"),
        (lambda: iter([1]), "because a list_iterator has no state_dict"),
    ],
)
def test_an_order_that_cannot_be_repeated_is_said_to_be_lost(make, says):
    assert says in EpochReader(make()).not_restorable


def test_samples_that_draw_from_somewhere_unknown_are_noticed():
    numbers = iter(range(1000))

    class Unknown(Random):
        def __getitem__(self, index):
            return torch.tensor([float(index + next(numbers))])

    with pytest.warns(InexactResumeWarning, match="batch 2 of the epoch was read again and has other values than befo"):
        stopped_and_resumed(lambda: DataLoader(Unknown(), 2))


def test_a_data_set_with_other_generators_is_noticed():
    state = EpochReader(DataLoader(Random(), 2))
    next(iter(state))
    resumed = EpochReader(DataLoader(DATA, 2))
    resumed.load_state_dict(state.state_dict())
    with pytest.warns(InexactResumeWarning, match="must have the random generators that were saved, 6 .* got 2$"):
        next(iter(resumed))


def test_a_state_of_something_else_is_refused():
    reader = EpochReader(DataLoader(DATA, 2))
    next(iter(reader))
    with pytest.raises(BadArgumentsError, match="the place in the batches must have"):
        EpochReader(DataLoader(DATA, 2)).load_state_dict(reader.state_dict() | {"command": "x"})


def test_a_first_batch_that_could_not_be_used_keeps_the_order():
    def make():
        return EpochReader(DataLoader(DATA, 2, shuffle=True))

    torch.manual_seed(0)
    reader = make()
    batches = iter(reader)
    first = next(batches)
    reader.uncount()
    resumed = make()
    resumed.load_state_dict(reader.state_dict())
    assert numbers(resumed) == [first[0].tolist(), *numbers(batches)]


@pytest.mark.parametrize("kind", ["none", pytest.param("numpy's", marks=pytest.mark.slow)])
def test_workers_continue_in_the_second_epoch(kind):
    def make():
        return DataLoader(Random(kind), 2, shuffle=True, num_workers=1)

    expected, got, reader = stopped_and_resumed(make, workers=True)
    assert torch.equal(expected, got)
    assert reader.not_restorable is None


@pytest.mark.parametrize("kind", ["none", pytest.param("torch's", marks=pytest.mark.slow)])
@pytest.mark.parametrize("taken", [pytest.param(2, marks=pytest.mark.slow), 8])
@pytest.mark.filterwarnings("ignore:training continues")
def test_persistent_workers_continue_the_order_and_say_that_their_random_numbers_are_others(kind, taken):
    def make():
        return DataLoader(Random(kind), 2, shuffle=True, num_workers=1, persistent_workers=True)

    expected, got, reader = stopped_and_resumed(make, taken, count=4, workers=True)
    assert torch.equal(expected.int(), got.int())
    assert torch.equal(expected, got) is (kind == "none" or taken == 2)
    lost = None if taken == 2 else "the random generators of the loader's workers are not saved, so that random"
    assert lost is None or lost in reader.not_restorable
