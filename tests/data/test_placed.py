"""Batches have one place: `fit` moves it, others look, and new batches that would only repeat share it."""

from __future__ import annotations

from itertools import islice

import numpy
import pytest
import torch
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, TensorDataset

from gankit.data import StreamBatches, TensorBatches, TensorData, make_batches, ring
from gankit.errors import DataError

SAMPLES = torch.linspace(0, 1, 20).view(20, 1)
DATASET = TensorDataset(SAMPLES)
LISTED = list(SAMPLES.split(2))
SOURCES = {
    "a tensor": lambda: SAMPLES,
    "a sampler": ring,
    "a data set": lambda: DATASET,
    "a loader in order": lambda: DataLoader(DATASET, 2),
    "a loader with a generator": lambda: DataLoader(
        DATASET, 2, sampler=RandomSampler(DATASET, generator=torch.Generator().manual_seed(3))
    ),
    "a list": lambda: LISTED,
}
EVERY = pytest.mark.parametrize("source", SOURCES)


def made(source, **arguments):
    return make_batches(SOURCES[source](), batch_size=2, **{"sample_range": None} | arguments)


def endless(batches):
    while True:
        yield from batches.take()


def plain_state(batches):
    return tree_map(lambda value: value.tolist() if isinstance(value, torch.Tensor) else value, batches.state_dict())


# --- who moves the place -------------------------------------------------------------------------------------


@EVERY
def test_looking_at_reserved_batches_moves_nothing(source):
    torch.manual_seed(0)
    undisturbed = list(islice(endless(made(source)), 25))
    torch.manual_seed(0)
    batches = made(source)
    before = iter(batches)  # began before they were reserved
    batches.is_reserved = True
    taken, looked = [], []
    for batch in islice(endless(batches), 25):
        taken.append(batch)
        looked += [next(before, None), *islice(batches, 2)]
    assert torch.equal(torch.stack(taken), torch.stack(undisturbed))
    assert all(one is None or one.shape == taken[0].shape for one in looked)


@pytest.mark.parametrize("source", ["a tensor", "a sampler"])
def test_looking_shows_what_follows(source):
    batches = made(source)
    reading = batches.take()
    next(reading)
    batches.is_reserved = True
    looked = list(islice(batches, 3))
    assert torch.equal(torch.stack(looked), torch.stack(list(islice(reading, 3))))


def test_the_saved_place_is_that_of_the_reader():
    batches = StreamBatches(LISTED)
    reading = batches.take()
    next(reading)
    batches.is_reserved = True
    list(batches)
    assert batches.state_dict()["position"] == 1


@pytest.mark.parametrize("kind", ["generator", "loader with a state"])
def test_a_source_that_only_one_can_read_is_refused_to_others(kind):
    class Loader(list):
        def state_dict(self):
            return {}

        load_state_dict = state_dict

    batches = StreamBatches(Loader(LISTED) if kind == "loader with a state" else iter(LISTED))
    reading = batches.take()
    next(reading)
    batches.is_reserved = True
    with pytest.raises(DataError, match=r"can be read several times, got a (Loader|list_iterator); make other batches"):
        next(iter(batches))
    assert torch.equal(next(reading), LISTED[1])


# --- the same batches made again -----------------------------------------------------------------------------


@EVERY
def test_batches_that_are_made_again_share_the_place(source):
    first, second = made(source), made(source)
    taken = first.take()
    next(taken)
    assert second.follow(first)
    assert second.follow(first)
    next(taken)
    assert plain_state(second) == plain_state(first) != plain_state(made(source))


@pytest.mark.parametrize("source", ["a tensor", "a sampler", "a data set"])
@pytest.mark.parametrize("change", [{"seed": 1}, {"batch_size": 4}])
def test_another_seed_or_batch_size_is_another_order(source, change):
    first = made(source)
    next(first.take())
    assert not make_batches(SOURCES[source](), **{"batch_size": 2, "sample_range": None} | change).follow(first)


def test_other_data_of_the_same_size_continue_the_order_with_their_own_samples():
    first = TensorBatches(SAMPLES, batch_size=2, seed=3)
    start = [next(first.take()) for _ in range(5)]
    second = TensorBatches(1 - SAMPLES, batch_size=2, seed=3)
    assert not second.follow(first)
    rest = [1 - one for one in second.take()]
    assert sorted(torch.cat([*start, *rest]).flatten().tolist()) == pytest.approx(SAMPLES.flatten().tolist())


def test_batches_that_were_read_or_restored_keep_their_own_place():
    first, read, restored = (made("a tensor") for _ in range(3))
    state = first.state_dict()
    next(first.take())
    next(iter(read))
    restored.load_state_dict(state)
    assert not read.follow(first)
    assert not restored.follow(first)
    assert (read.position, restored.position) == (1, 0)


def test_loaders_with_other_samplers_are_others():
    def made_with(rows):
        return StreamBatches(DataLoader(DATASET, 2, sampler=SubsetRandomSampler(rows)))

    first = made_with(range(4))
    next(first.take())
    assert not made_with(range(4, 8)).follow(first)
    assert not StreamBatches(DataLoader(DATASET, 2, shuffle=True)).follow(first)


# --- memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tensor", "numpy", "labels"])
def test_resident_data_are_a_copy(kind):
    pixels, labels = numpy.zeros((4, 1), "uint8"), torch.zeros(4, dtype=torch.long)
    given = torch.from_numpy(pixels)
    batches = TensorBatches(TensorData(given, labels), batch_size=4, with_labels=True)
    if kind == "numpy":
        pixels[:] = 255
    else:
        given.fill_(255)
    labels.fill_(7)
    real, condition = next(iter(batches))
    assert (float(real.max()), int(condition.max())) == (0, 0)


def test_what_was_copied_by_a_conversion_or_is_not_shared_is_not_copied_again():
    data = torch.zeros(4, 1)
    assert TensorBatches(data, batch_size=2, copy=False).samples.data_ptr() == data.data_ptr()
    assert TensorBatches(data, batch_size=2).samples.data_ptr() != data.data_ptr()
