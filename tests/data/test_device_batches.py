"""A step can draw the same batches as iterating yields; each replica has an order of its own."""

from __future__ import annotations

import io
import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.utils.data import DataLoader, TensorDataset

from gankit.data import SampledBatches, TensorBatches, TensorData, make_batches, ring
from gankit.errors import BadArgumentsError, BadValueError
from gankit.protocols import DeviceBatches

SEEDS = st.integers(0, 2**40)


def numbered(count):
    """Samples whose value and label are their number."""
    return TensorData(torch.arange(float(count)).unsqueeze(1), torch.arange(count))


def resident(count=7, batch_size=2, seed=0, **arguments):
    return TensorBatches(numbered(count), batch_size=batch_size, seed=seed, sample_range=None, **arguments)


def sampled(seed=0, **arguments):
    return SampledBatches(ring(), batch_size=4, seed=seed, **arguments)


KINDS = {"resident": resident, "sampled": sampled}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def endless(batches):
    while True:
        yield from batches


def iterated(batches, count):
    return list(itertools.islice(endless(batches), count))


def drawn(batches, count, slots=1):
    """Batches as a step with `slots` batches draws them: first the host's part of all, then the device's."""
    found = []
    while len(found) < count:
        for slot in range(slots):
            batches.advance(slot)
        found += [batches.read(slot) for slot in range(slots)]
    return found[:count]


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- drawn by a step -------------------------------------------------------------------------------------


@EVERY_KIND
@pytest.mark.parametrize("replicas", [None, 3])
def test_they_are_device_batches(kind, replicas):
    assert isinstance(KINDS[kind](replicas=replicas), DeviceBatches)


@EVERY_KIND
@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("replicas", [None, 3])
def test_a_step_draws_the_batches_that_iterating_gives(kind, slots, replicas):
    wanted = iterated(KINDS[kind](replicas=replicas), 20)
    assert same(drawn(KINDS[kind](replicas=replicas), 20, slots), wanted)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.integers(1, 20).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count))),
    by_iterating=st.lists(st.booleans(), min_size=1, max_size=40),
    seed=SEEDS,
    replicas=st.sampled_from([None, 2]),
)
def test_iterating_and_drawing_take_turns_at_any_place(sizes, by_iterating, seed, replicas):
    batches, stream = resident(*sizes, seed, replicas=replicas), None
    found = []
    for iterates in by_iterating:
        if not iterates:
            found += drawn(batches, 1)
            continue
        batch = next(stream, None) if stream is not None else None
        if batch is None:  # as a feed does, which keeps its iterator
            stream = iter(batches)
            batch = next(stream)
        found.append(batch)
    other = resident(*sizes, seed, replicas=replicas)
    assert same(found, iterated(other, len(by_iterating)))
    assert (batches.epoch, batches.position) == (other.epoch, other.position)


def test_reading_again_gives_the_same_resident_batch_and_the_next_sampled_one():
    batches = resident()
    batches.advance(0)
    assert torch.equal(batches.read(0), batches.read(0))
    batches = sampled()
    batches.advance(0)
    assert not torch.equal(batches.read(0), batches.read(0))


def test_a_slot_keeps_its_place_in_memory():
    """A captured step always reads the numbers of its samples from the same memory."""
    batches = resident()
    batches.advance(0)
    place = batches._rows[0].data_ptr()
    for _ in range(10):
        batches.advance(0)
    assert batches._rows[0].data_ptr() == place
    batches.load_state_dict(batches.state_dict())
    batches.advance(0)
    assert batches._rows[0].data_ptr() == place


def test_the_generators_that_batches_are_drawn_from_are_listed():
    assert list(resident(replicas=2).generators) == []
    batches = sampled(replicas=2)
    before = [one.get_state() for one in batches.generators]
    batches.read(0)
    assert len(before) == 2
    assert not any(torch.equal(state, one.get_state()) for state, one in zip(before, batches.generators, strict=True))


def test_labels_come_with_the_samples():
    batches = resident(with_labels=True)
    for _ in range(8):
        batches.advance(0)
        real, labels = batches.read(0)
        assert torch.equal(real.squeeze(1).long(), labels)


# --- replicas --------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, replicas=st.integers(1, 4), kind=st.sampled_from(list(KINDS)))
def test_each_replica_has_the_batches_of_its_own_seed(seed, replicas, kind):
    together = iterated(KINDS[kind](seed=seed, replicas=replicas), 8)
    for index in range(replicas):
        alone = iterated(KINDS[kind](seed=seed + index), 8)
        assert same([batch[index] for batch in together], alone)


def test_the_orders_of_two_replicas_differ_and_each_is_a_whole_epoch():
    orders = torch.cat([batch.squeeze(-1) for batch in resident(40, 4, replicas=2)], dim=1)
    assert orders.shape == (2, 40)
    assert not torch.equal(*orders)
    assert all(sorted(order.tolist()) == list(range(40)) for order in orders)


def test_the_labels_of_replicas_stay_with_their_samples():
    for real, labels in resident(12, 4, replicas=3, with_labels=True):
        assert (real.shape, labels.shape) == ((3, 4, 1), (3, 4))
        assert torch.equal(real.squeeze(-1).long(), labels)


def test_bytes_of_replicas_are_scaled():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(3, 1, 2, 2)
    batch = next(iter(TensorBatches(pixels, batch_size=2, replicas=2)))
    assert (batch.shape, batch.dtype) == ((2, 2, 1, 2, 2), torch.float32)
    assert 0 < batch.max() <= 11 / 255


@EVERY_KIND
def test_one_replica_is_not_none(kind):
    alone, one = next(iter(KINDS[kind]())), next(iter(KINDS[kind](replicas=1)))
    assert torch.equal(one, alone.unsqueeze(0))


@EVERY_KIND
@pytest.mark.parametrize("taken", [0, 1, 3, 5])
@pytest.mark.parametrize("replicas", [None, 3])
def test_a_saved_place_is_gone_on_from_exactly(kind, taken, replicas):
    batches = KINDS[kind](seed=4, replicas=replicas)
    drawn(batches, taken)
    state = through_a_file(batches.state_dict())
    wanted = drawn(batches, 9)
    for take in (drawn, iterated):
        other = KINDS[kind](seed=9, replicas=replicas)
        drawn(other, 2)
        other.load_state_dict(state)
        assert same(take(other, 9), wanted)


@EVERY_KIND
@pytest.mark.parametrize(("saved", "own"), [(3, 2), (2, 3), (None, 2), (2, None)])
def test_the_place_of_another_number_of_replicas_is_refused_and_changes_nothing(kind, saved, own):
    state = KINDS[kind](replicas=saved).state_dict()
    batches, undisturbed = KINDS[kind](seed=9, replicas=own), KINDS[kind](seed=9, replicas=own)
    with pytest.raises(BadArgumentsError, match=f"one per replica, got {saved or 1}"):
        batches.load_state_dict(state)
    assert same(drawn(batches, 5), drawn(undisturbed, 5))


@EVERY_KIND
@pytest.mark.parametrize("replicas", [0, -1])
def test_an_impossible_number_of_replicas_is_refused(kind, replicas):
    with pytest.raises(BadValueError, match=f"^replicas must be above 0, got {replicas}$"):
        KINDS[kind](replicas=replicas)


# --- made of whatever people have ------------------------------------------------------------------------


@pytest.mark.parametrize("data", [numbered(6), numbered(6).samples, ring()], ids=["data", "tensor", "sampler"])
def test_data_in_memory_and_samplers_are_made_into_batches_of_replicas(data):
    together = make_batches(data, batch_size=2, sample_range=None, seed=3, replicas=2)
    alone = [make_batches(data, batch_size=2, sample_range=None, seed=seed) for seed in (3, 4)]
    for batch, *others in zip(iterated(together, 4), *[iterated(one, 4) for one in alone], strict=True):
        assert torch.equal(batch, torch.stack(others))


DATASET = TensorDataset(torch.rand(6, 2))

NO_REPLICAS = {
    "DataLoader": lambda: DataLoader(DATASET, 2),
    "TensorDataset": lambda: DATASET,
    "list": lambda: [torch.rand(2, 2)],
    "StreamBatches": lambda: make_batches(DataLoader(DATASET, 2), batch_size=2),
}


@pytest.mark.parametrize("name", NO_REPLICAS)
def test_data_that_has_one_order_is_refused_for_replicas(name):
    with pytest.raises(BadArgumentsError, match=f"data for replicas must be in memory or a Sampler, .* got {name}"):
        make_batches(NO_REPLICAS[name](), batch_size=2, replicas=2)


@EVERY_KIND
def test_batches_of_replicas_are_taken_as_they_are(kind):
    batches = KINDS[kind](replicas=2)
    assert make_batches(batches, batch_size=2, replicas=2) is batches


@EVERY_KIND
@pytest.mark.parametrize(("made", "asked"), [(None, 2), (3, 2)])
def test_batches_of_another_number_of_replicas_are_refused(kind, made, asked):
    with pytest.raises(BadArgumentsError, match="replicas"):
        make_batches(KINDS[kind](replicas=made), batch_size=2, replicas=asked)
