"""`make_batches` makes batches of every kind of data."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from gankit.data import StreamBatches, TensorBatches, TensorData, make_batches
from gankit.errors import BadArgumentsError, DataError, ShapeError

SAMPLES = torch.linspace(0, 1, 12).reshape(12, 1)
LABELS = torch.arange(12)


class Stream(IterableDataset):
    def __iter__(self):
        yield from SAMPLES


class Pictures(Dataset):
    def __len__(self):
        return len(SAMPLES)

    def __getitem__(self, index):
        return SAMPLES[index], int(LABELS[index])


SOURCES = {
    "a tensor": lambda: SAMPLES,
    "a TensorData": lambda: TensorData(SAMPLES, LABELS),
    "a TensorDataset": lambda: TensorDataset(SAMPLES),
    "a Dataset of its own": Pictures,
    "an IterableDataset": Stream,
    "a DataLoader": lambda: DataLoader(Pictures(), batch_size=4),
    "a list of batches": lambda: list(SAMPLES.split(4)),
    "a generator of batches": lambda: iter(SAMPLES.split(4)),
    "TensorBatches": lambda: TensorBatches(SAMPLES, batch_size=4),
    "StreamBatches": lambda: StreamBatches(SAMPLES.split(4)),
}
READY = ("TensorBatches", "StreamBatches")  # which have a range of their own
EVERY = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


@EVERY
def test_every_sample_of_every_source_comes_once(source):
    batches = list(make_batches(source(), batch_size=4, sample_shape=(1,)))
    assert [batch.shape for batch in batches] == [(4, 1)] * 3
    assert sorted(torch.cat(batches).flatten().tolist()) == SAMPLES.flatten().tolist()


@pytest.mark.parametrize(
    "source",
    [
        TensorData(SAMPLES, LABELS),
        TensorDataset(SAMPLES, LABELS),
        Pictures(),
        DataLoader(Pictures(), 4),
        [(SAMPLES, LABELS)],
    ],
)
def test_labels_come_with_their_samples(source):
    for samples, labels in make_batches(source, batch_size=4, with_labels=True):
        assert torch.equal(samples, SAMPLES[labels])


@pytest.mark.parametrize("source", [SOURCES["a tensor"], SOURCES["a Dataset of its own"]])
def test_the_seed_decides_the_order_where_it_is_made_here(source):
    def order(seed):
        return torch.cat(list(make_batches(source(), batch_size=4, seed=seed))).flatten().tolist()

    assert order(3) == order(3)
    assert order(3) != order(4)
    assert order(3) != SAMPLES.flatten().tolist()


def test_a_datasets_next_epoch_has_another_order():
    batches = make_batches(Pictures(), batch_size=4)
    assert not torch.equal(torch.cat(list(batches)), torch.cat(list(batches)))


@pytest.mark.parametrize("source", [Pictures, Stream])
def test_samples_that_fill_no_batch_are_left_out(source):
    assert [len(batch) for batch in make_batches(source(), batch_size=5)] == [5, 5]


def test_a_loaders_own_batch_size_stays():
    loader = DataLoader(Pictures(), batch_size=3)
    assert [len(batch) for batch in make_batches(loader, batch_size=5)] == [3] * 4


@pytest.mark.parametrize("source", READY)
def test_what_is_batches_already_stays_itself(source):
    batches = SOURCES[source]()
    assert make_batches(batches, batch_size=4) is batches


@pytest.mark.parametrize("source", [name for name in SOURCES if name not in READY])
def test_the_range_is_checked_wherever_samples_come_from(source):
    with pytest.raises(DataError, match=r"must be in \[2, 3\], got values from 0"):
        next(iter(make_batches(SOURCES[source](), batch_size=12, sample_range=(2.0, 3.0))))


PIXELS = torch.tensor([[0], [255]], dtype=torch.uint8)


@pytest.mark.parametrize("source", [PIXELS, TensorDataset(PIXELS), [PIXELS]])
def test_bytes_are_scaled_wherever_they_come_from(source):
    (batch,) = make_batches(source, batch_size=2, sample_range=(-1.0, 1.0))
    assert sorted(batch.flatten().tolist()) == [-1.0, 1.0]


@pytest.mark.parametrize("source", [SAMPLES, Pictures(), [SAMPLES]])
def test_samples_of_another_shape_are_refused(source):
    with pytest.raises(ShapeError, match=r"shape \(1, 28, 28\), got \(1,\)"):
        next(iter(make_batches(source, batch_size=4, sample_shape=(1, 28, 28))))


@pytest.mark.parametrize("source", [SAMPLES, Pictures()])
def test_too_few_samples_are_refused(source):
    with pytest.raises(DataError, match="^data must fill a batch of 13, got 12 samples; choose a smaller batch_size$"):
        make_batches(source, batch_size=13)


@pytest.mark.parametrize("source", [3, None, "mnist_5k"])
def test_what_is_no_data_is_refused(source):
    with pytest.raises(BadArgumentsError, match=f"or an iterable of batches, got {source!r}$"):
        make_batches(source, batch_size=4)
