"""Batches from outside gankit are moved, scaled and brought into one form, and the first one is checked."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from gankit.data import StreamBatches
from gankit.errors import BadArgumentsError, DataError, ShapeError

SAMPLES = torch.rand(4, 1, 8, 8)
LABELS = torch.arange(4)
FORMS = {
    "tensor": SAMPLES,
    "one in a list": [SAMPLES],
    "one in a tuple": (SAMPLES,),
    "list": [SAMPLES, LABELS],
    "tuple": (SAMPLES, LABELS),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_samples_come_out_whatever_form_they_came_in(form):
    (batch,) = StreamBatches([form])
    assert torch.equal(batch, SAMPLES)


@pytest.mark.parametrize("form", ["list", "tuple"])
def test_labels_come_out_where_they_are_asked_for(form):
    ((samples, labels),) = StreamBatches([FORMS[form]], with_labels=True)
    assert torch.equal(samples, SAMPLES)
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize("form", ["tensor", "one in a list", "one in a tuple"])
def test_missing_labels_are_refused(form):
    with pytest.raises(DataError, match=r"must be \(samples, labels\) for a conditional model, got samples alone"):
        next(iter(StreamBatches([FORMS[form]], with_labels=True)))


@pytest.mark.parametrize("sample_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_bytes_are_scaled_to_the_range(sample_range):
    pixels = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8)
    (batch,) = StreamBatches([pixels], sample_range=sample_range)
    low, high = sample_range
    assert torch.equal(batch, pixels.float() / 255 * (high - low) + low)
    assert pixels.dtype == torch.uint8


def test_bytes_without_a_range_are_refused():
    with pytest.raises(DataError, match="sample_range must be a pair of numbers for data of bytes, .* got None"):
        next(iter(StreamBatches([torch.zeros(2, 3, dtype=torch.uint8)], sample_range=None)))


def test_every_batch_of_a_loader_comes_out_in_its_order_and_again_next_time():
    data = torch.arange(10.0).unsqueeze(1)
    batches = StreamBatches(DataLoader(TensorDataset(data), batch_size=4), sample_range=None)
    for _ in range(2):
        assert torch.equal(torch.cat(list(batches)), data)


def test_nothing_is_read_before_it_is_asked_for():
    read = []

    def stream():
        for number in range(3):
            read.append(number)
            yield SAMPLES

    batches = iter(StreamBatches(stream()))
    assert read == []
    next(batches)
    assert read == [0]


@pytest.mark.parametrize(
    ("samples", "arguments", "error", "sentence"),
    [
        (SAMPLES, {"sample_shape": (1, 28, 28)}, ShapeError, "samples of shape (1, 28, 28), got (1, 8, 8)"),
        (SAMPLES + 1, {}, DataError, "the batches must be in [0, 1], got values from 1"),
        (SAMPLES - 1, {}, DataError, "the batches must be in [0, 1], got values from -"),
        (SAMPLES - 2, {"sample_range": (-1.0, 1.0)}, DataError, "the batches must be in [-1, 1], got values from -"),
        (SAMPLES * math.nan, {}, DataError, "NaN or infinite values in 4 samples, first in number 0"),
        (SAMPLES.long(), {}, DataError, "must be bytes or floating point, got torch.int64"),
    ],
)
def test_a_first_batch_that_cannot_be_used_is_refused_while_iterating(samples, arguments, error, sentence):
    batches = StreamBatches([samples], **arguments)
    for _ in range(2):  # a second try does not let it through
        with pytest.raises(error) as refusal:
            next(iter(batches))
        assert sentence in str(refusal.value)


def test_later_batches_are_left_to_the_trainer():
    (_, later) = StreamBatches([SAMPLES, SAMPLES * math.nan])
    assert later.isnan().all()


@pytest.mark.parametrize(
    ("batch", "given"),
    [
        ("a picture", "str"),
        (3, "int"),
        (None, "NoneType"),
        ([], "list of nothing"),
        ((SAMPLES, LABELS, LABELS), "tuple of Tensor, Tensor, Tensor"),
        ([SAMPLES, 3], "list of Tensor, int"),
        ((None, LABELS), "tuple of NoneType, Tensor"),
    ],
)
def test_what_is_no_batch_is_refused_with_its_type(batch, given):
    with pytest.raises(DataError, match=f"must be a tensor, or samples and labels, got {given};"):
        next(iter(StreamBatches([batch])))


def test_the_number_of_batches_is_that_of_the_source():
    assert len(StreamBatches(DataLoader(TensorDataset(SAMPLES), 3))) == 2
    assert len(StreamBatches([SAMPLES])) == 1
    unknown = StreamBatches(iter([SAMPLES]))
    with pytest.raises(BadArgumentsError, match="a source that has a length, got a list_iterator"):
        len(unknown)
    assert unknown


# --- dictionaries, and labels --------------------------------------------------------------------------------

NAMED = {"image": SAMPLES, "label": LABELS, "path": ["a", "b", "c", "d"]}


@pytest.mark.parametrize("keys", ["image", ("image",), ("image", "label"), ["image", "label"]])
def test_entries_of_dictionaries_are_named_by_keys(keys):
    (batch,) = StreamBatches([NAMED], keys=keys)
    assert torch.equal(batch, SAMPLES)
    if len(keys) == 2:
        ((samples, labels),) = StreamBatches([NAMED], keys=keys, with_labels=True)
        assert (samples is SAMPLES, labels is LABELS) == (True, True)


@pytest.mark.parametrize(
    ("batch", "keys", "says"),
    [
        (
            NAMED,
            None,
            r"dictionary, whose entries are \['image', 'label', 'path'\]; .* such as keys=\(\"image\", \"label\"\)$",
        ),
        (NAMED, ("picture",), r"keys must name entries of a batch, which are \['image', .*\], got 'picture'$"),
        (NAMED, ("image", "path"), "got dict of Tensor, list;"),
        (SAMPLES, "image", r"keys=\('image',\) is for batches that are dictionaries, but a batch is a Tensor$"),
    ],
)
def test_wrong_and_missing_keys_are_refused(batch, keys, says):
    with pytest.raises(DataError, match=says):
        next(iter(StreamBatches([batch], keys=keys)))


@pytest.mark.parametrize("keys", [(), ("a", "b", "c"), 3, (1,)])
def test_keys_are_one_or_two_names(keys):
    with pytest.raises(BadArgumentsError, match="keys must name the samples, or the samples and the labels"):
        StreamBatches([NAMED], keys=keys)


def test_the_labels_of_every_batch_are_checked():
    good, bad = (SAMPLES, LABELS), (SAMPLES, LABELS + 1)
    batches = iter(StreamBatches([good, bad], with_labels=True, num_classes=4))
    next(batches)
    with pytest.raises(
        DataError, match="from 0 to 3 for num_classes=4, got 1 to 4, first 4 for sample 3 of the batch$"
    ):
        next(batches)


# --- what a DataLoader cannot put together -------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("odd", "error", "says"),
    [
        (
            None,
            DataError,
            "the samples of batch 1 must be tensors, arrays or numbers, got NoneType; a transform such as",
        ),
        (Image.new("L", (8, 8)), DataError, "the samples of batch 1 must be tensors, arrays or numbers, got .*Image"),
        (torch.zeros(1, 8, 9), ShapeError, "the samples of batch 1 must have one shape"),
    ],
    ids=["None", "a picture", "another size"],
)
def test_samples_that_make_no_batch_are_refused_with_its_number(odd, error, says, workers):
    loader = DataLoader([SAMPLES[0]] * 3 + [odd], 2, num_workers=workers)
    batches = iter(StreamBatches(loader))
    next(batches)
    with pytest.raises(error, match=says) as caught:
        next(batches)
    assert "\n" not in str(caught.value)


def test_errors_of_the_data_set_itself_pass():
    class Broken(list):
        def __getitem__(self, index):
            raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(iter(StreamBatches(DataLoader(Broken([1, 2]), 2))))
