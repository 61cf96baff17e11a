"""Batches in memory contain each sample once per epoch, in the order of the seed, and continue where they stopped."""

from __future__ import annotations

import io
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from gankit.data import TensorBatches, TensorData
from gankit.errors import BadArgumentsError, BadValueError, DataError

SEEDS = st.integers(0, 2**40)


def numbered(count):
    """Samples whose value is their number."""
    return torch.arange(float(count)).unsqueeze(1)


def numbered_batches(count, batch_size, seed=0, **arguments):
    return TensorBatches(numbered(count), batch_size=batch_size, seed=seed, sample_range=None, **arguments)


def epoch(batches):
    """The numbers of the samples of one epoch, one list per batch."""
    return [batch.squeeze(1).int().tolist() for batch in batches]


@st.composite
def sizes(draw):
    count = draw(st.integers(1, 40))
    return count, draw(st.integers(1, count))


# --- order -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(size=sizes(), seed=SEEDS)
def test_an_epoch_gives_full_batches_and_no_sample_twice(size, seed):
    count, batch_size = size
    batches = numbered_batches(count, batch_size, seed)
    for _ in range(3):
        rows = epoch(batches)
        assert len(rows) == len(batches) == count // batch_size
        assert {len(row) for row in rows} == {batch_size}
        given_out = [number for row in rows for number in row]
        assert len(set(given_out)) == len(given_out)
        assert set(given_out) <= set(range(count))


@settings(max_examples=30, deadline=None)
@given(batch_size=st.integers(1, 10), count=st.integers(1, 6), seed=SEEDS)
def test_an_epoch_gives_every_sample_where_the_batches_come_out_even(batch_size, count, seed):
    rows = epoch(numbered_batches(batch_size * count, batch_size, seed))
    assert sorted(number for row in rows for number in row) == list(range(batch_size * count))


def test_samples_left_over_get_their_turn_in_other_epochs():
    batches = numbered_batches(5, 2)
    assert {number for _ in range(50) for row in epoch(batches) for number in row} == set(range(5))


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_the_next_epoch_has_another_order(seed):
    batches = numbered_batches(40, 4, seed)
    first = epoch(batches)
    assert epoch(batches) != first


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_one_seed_gives_one_order_and_another_seed_another(seed):
    one, same, other = (numbered_batches(40, 4, s) for s in (seed, seed, seed + 1))
    for _ in range(2):
        order = epoch(one)
        assert epoch(same) == order
        assert epoch(other) != order


def test_the_order_is_independent_of_torchs_generator():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    order = epoch(numbered_batches(40, 4))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert epoch(numbered_batches(40, 4)) == order


def test_epoch_and_position_count_what_was_given_out():
    batches = numbered_batches(6, 2)
    assert (batches.epoch, batches.position) == (0, 0)
    rows = iter(batches)
    next(rows)
    next(rows)
    assert (batches.epoch, batches.position) == (0, 2)
    next(rows)
    assert next(rows, None) is None
    assert (batches.epoch, batches.position) == (0, 3)
    next(iter(batches))
    assert (batches.epoch, batches.position) == (1, 1)


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_iterating_again_gives_the_rest_of_the_epoch(taken):
    whole = epoch(numbered_batches(8, 2))
    batches = numbered_batches(8, 2)
    rows = iter(batches)
    for _ in range(taken):
        next(rows)
    assert epoch(batches) == whole[taken:]


# --- state -----------------------------------------------------------------------------------------------


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@settings(max_examples=40, deadline=None)
@given(size=sizes(), taken=st.integers(0, 60), seed=SEEDS)
def test_a_saved_place_is_gone_on_from_exactly(size, taken, seed):
    batches = numbered_batches(*size, seed)
    given_out = 0
    while given_out < taken:
        for _ in batches:
            given_out += 1
            if given_out == taken:
                break
    state = through_a_file(batches.state_dict())
    other = numbered_batches(*size, seed + 1)
    next(iter(other))
    other.load_state_dict(state)
    assert (other.epoch, other.position) == (batches.epoch, batches.position)
    for _ in range(3):
        assert epoch(other) == epoch(batches)
        assert other.epoch == batches.epoch


def test_a_saved_place_stays_while_the_batches_go_on():
    batches = numbered_batches(8, 2)
    next(iter(batches))
    state = batches.state_dict()
    rest = [epoch(batches), epoch(batches)]
    batches.load_state_dict(state)
    assert [epoch(batches), epoch(batches)] == rest


@pytest.mark.parametrize("position", [-1, 5])
def test_a_place_beyond_the_data_is_refused(position):
    batches = numbered_batches(8, 2)
    with pytest.raises(BadArgumentsError, match=f"data with 4 batches per epoch, got position {position}$"):
        batches.load_state_dict(batches.state_dict() | {"position": position})


# --- values ----------------------------------------------------------------------------------------------


EVERY_BYTE = torch.arange(256, dtype=torch.uint8).unsqueeze(1)


def test_bytes_stay_bytes_in_memory_and_come_out_as_float32():
    batches = TensorBatches(EVERY_BYTE, batch_size=256)
    assert batches.samples.dtype == torch.uint8
    assert next(iter(batches)).dtype == torch.float32
    assert batches.samples.equal(EVERY_BYTE)


@pytest.mark.parametrize(
    ("sample_range", "wanted"),
    [
        ((0.0, 1.0), EVERY_BYTE.float() / 255),
        ((-1.0, 1.0), EVERY_BYTE.float() / 255 * 2 - 1),
    ],
)
def test_bytes_are_scaled_to_the_range_to_the_bit(sample_range, wanted):
    (batch,) = TensorBatches(EVERY_BYTE, batch_size=256, sample_range=sample_range)
    assert torch.equal(batch.sort(0).values, wanted)
    assert (float(batch.min()), float(batch.max())) == sample_range


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sample_range", [(0.0, 1.0), (-1.0, 1.0), None])
def test_floats_come_out_as_they_are(dtype, sample_range):
    samples = torch.rand(8, 2, dtype=dtype)
    (batch,) = TensorBatches(samples, batch_size=8, sample_range=sample_range)
    assert batch.dtype == dtype
    assert sorted(batch.tolist()) == sorted(samples.tolist())


def test_labels_stay_with_their_samples():
    data = TensorData(numbered(12), torch.arange(12) * 10)
    for real, labels in TensorBatches(data, batch_size=4, sample_range=None, with_labels=True):
        assert torch.equal(real.squeeze(1).long() * 10, labels)


def test_labels_are_left_behind_where_nobody_asks_for_them():
    batches = TensorBatches(TensorData(numbered(4), torch.arange(4)), batch_size=4, sample_range=None)
    assert [batch.shape for batch in batches] == [(4, 1)]


def test_the_data_lies_on_the_device_asked_for():
    batches = TensorBatches(EVERY_BYTE, batch_size=2, device="cpu")
    assert batches.device == torch.device("cpu") == batches.samples.device


def test_a_data_set_knows_its_length_and_shape():
    data = TensorData(torch.rand(5, 3, 8, 8))
    assert (len(data), data.sample_shape, data.labels) == (5, (3, 8, 8), None)


@pytest.mark.parametrize("value", [-1e-5, 1 + 1e-5])
def test_rounding_beyond_the_range_is_let_through(value):
    TensorBatches(torch.tensor([[0.5], [value]]), batch_size=1)


# --- refusals --------------------------------------------------------------------------------------------


def filled(value, count=4, dtype=torch.float32):
    return torch.full((count, 2), value, dtype=dtype)


def with_one(value, row=3):
    samples = torch.rand(8, 2)
    samples[row, 1] = value
    return samples


@pytest.mark.parametrize(
    ("samples", "arguments", "sentence"),
    [
        (torch.zeros(0, 1, 8, 8), {}, "samples must be (N, *sample_shape) with N above 0, got (0, 1, 8, 8)"),
        (torch.zeros(8), {}, "samples must be (N, *sample_shape) with N above 0, got (8,)"),
        (torch.rand(3, 2), {"batch_size": 4}, "data must fill a batch of 4, got 3 samples"),
        (with_one(math.nan), {}, "must be finite, got NaN or infinite values in 1 samples, first in number 3"),
        (with_one(math.inf), {}, "must be finite, got NaN or infinite values in 1 samples, first in number 3"),
        (with_one(-math.inf), {"sample_range": None}, "in 1 samples, first in number 3"),
        (with_one(1.5), {}, "the data must be in [0, 1], got values from"),
        (with_one(-0.5), {}, "the data must be in [0, 1], got values from -0.5"),
        (with_one(-1.5), {"sample_range": (-1.0, 1.0)}, "the data must be in [-1, 1], got values from -1.5"),
        (filled(255.0), {}, "got values from 255 to 255; scale them, or pass bytes"),
        (filled(7, dtype=torch.int64), {}, "the data must be bytes or floating point, got torch.int64"),
        (
            filled(7, dtype=torch.uint8),
            {"sample_range": None},
            "sample_range must be a pair of numbers for data of bytes",
        ),
        (filled(0.5), {"with_labels": True}, "data must have labels for a conditional model, got none"),
    ],
)
def test_data_that_cannot_be_used_is_refused(samples, arguments, sentence):
    with pytest.raises(DataError) as refusal:
        TensorBatches(samples, **{"batch_size": 2} | arguments)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_an_impossible_batch_size_is_refused(batch_size):
    with pytest.raises(BadValueError, match=f"^batch_size must be above 0, got {batch_size}$"):
        TensorBatches(torch.rand(4, 2), batch_size=batch_size)


def test_another_number_of_labels_is_refused():
    with pytest.raises(DataError, match="^labels must be one per sample, got 3 for 4$"):
        TensorData(torch.rand(4, 2), torch.arange(3))
