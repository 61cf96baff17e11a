"""Data sets, labels and shapes of other people: each fault is one sentence with the number of the sample."""

from __future__ import annotations

import numpy
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from gankit.data import TensorBatches, TensorData, make_batches
from gankit.data.checked import CheckedDataset, shape_hint
from gankit.errors import BadArgumentsError, DataError, ShapeError

PICTURE = torch.rand(1, 4, 4)


class Items(Dataset):
    """Eight samples, of which number 5 is another."""

    def __init__(self, odd, usual=PICTURE):
        self.items = [usual] * 5 + [odd] + [usual] * 2

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


ODD = {
    "a picture": (
        Image.new("L", (4, 4)),
        DataError,
        "must be a tensor or an array, got Image; a transform such as tor",
    ),
    "None": (None, DataError, "must be a tensor or an array, got NoneType$"),
    "text": ("a.png", DataError, "must be a tensor or an array, got str$"),
    "another size": (
        torch.rand(1, 4, 6),
        ShapeError,
        r"the shape \(1, 4, 4\), got \(1, 4, 6\); image_folder's size and fit",
    ),
    "channels last": (
        numpy.zeros((4, 4, 1), "uint8"),
        ShapeError,
        r"got \(4, 4, 1\); .permute puts the channels first$",
    ),
    "a dictionary": (
        {"image": PICTURE},
        DataError,
        r"is a dictionary, whose entries are \['image'\]; name the samples",
    ),
}


@pytest.mark.parametrize("shape", [(1, 4, 4), None])
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_sample_of_a_data_set_is_refused_with_its_number(odd, shape):
    item, error, says = ODD[odd]
    if shape is None and error is ShapeError:
        data = CheckedDataset(Items(item))
        assert data[0] is PICTURE
        with pytest.raises(error, match=f"^sample 5 of the data set must have .*{says}"):
            data[5]
        return
    with pytest.raises(error, match=f"^sample 5 of the data set .*{says}"):
        next(iter(make_batches(Items(item), batch_size=8, sample_shape=shape)))


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (3, "must be from 0 to 2 for num_classes=3, got 3"),
        (-1, "must be from 0 to 2 for num_classes=3, got -1"),
        (torch.tensor(7), "must be from 0 to 2 for num_classes=3, got 7"),
        (numpy.int64(7), "must be from 0 to 2 for num_classes=3, got 7"),
        (0.5, "must be an integer, got 0.5"),
        ("cat", "must be an integer, got 'cat'"),
    ],
)
def test_a_wrong_label_of_a_data_set_is_refused_with_its_number(label, says):
    data = Items((PICTURE, label), usual=(PICTURE, 1))
    with pytest.raises(DataError, match=f"^the label of sample 5 of the data set {says}$"):
        next(iter(make_batches(data, batch_size=8, with_labels=True, num_classes=3)))


def test_right_labels_of_each_kind_pass():
    for label in (1, numpy.int64(1), torch.tensor(1), torch.tensor([1])):
        batch = next(iter(make_batches(Items((PICTURE, label), (PICTURE, label)), batch_size=8, num_classes=3)))
        assert batch.shape == (8, 1, 4, 4)


def test_data_sets_of_dictionaries_are_read_by_keys():
    item = {"image": PICTURE, "label": 2}
    batches = make_batches(Items(item, item), batch_size=8, with_labels=True, num_classes=3, keys=("image", "label"))
    samples, labels = next(iter(batches))
    assert (samples.shape, labels.tolist()) == ((8, 1, 4, 4), [2] * 8)


def test_samples_that_a_data_set_fetches_together_are_fetched_together():
    fetched = []

    class Together(TensorDataset):
        def __getitems__(self, indices):
            fetched.append(indices)
            return [self[one] for one in indices]

    data = Subset(Together(torch.rand(8, 1)), range(2, 8))
    assert next(iter(make_batches(data, batch_size=3))).shape == (3, 1)
    assert [len(one) for one in fetched] == [3]


# --- labels in memory ----------------------------------------------------------------------------------------

SAMPLES = torch.rand(4, 2)


@pytest.mark.parametrize("labels", [[0, 1, 2, 0], (0, 1, 2, 0), numpy.array([0, 1, 2, 0]), range(4)])
def test_labels_may_be_sequences_and_arrays(labels):
    data = TensorData(SAMPLES, labels)
    assert data.labels.tolist() == list(labels)
    TensorBatches(data, batch_size=2, with_labels=True, num_classes=4)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["cat"] * 4, "labels must be integers, one per sample, got 'cat' for sample 0"),
        ([0, 1, 1.5, 0], "labels must be integers, one per sample, got 1.5 for sample 2"),
        (numpy.array(["cat"] * 4), "labels must be integers, one per sample, got a ndarray"),
        (numpy.array([0.5, 1, 1, 1]), "labels must be integers, got torch.float64, 0.5 for sample 0"),
        (torch.tensor([0.0, 1, 1, 1]), "labels must be integers, got torch.float32, 0.0 for sample 0"),
        (torch.tensor([0, 2, 3, 1]), "from 0 to 2 for num_classes=3, got 0 to 3, first 3 for sample 2"),
        (torch.tensor([0, 2, -1, 1]), "from 0 to 2 for num_classes=3, got -1 to 2, first -1 for sample 2"),
    ],
)
def test_wrong_labels_are_refused_with_the_number_of_the_sample(labels, says):
    with pytest.raises(DataError, match=says):
        make_batches(TensorData(SAMPLES, labels), batch_size=2, with_labels=True, num_classes=3)


def test_samples_that_are_no_tensor_are_refused():
    with pytest.raises(BadArgumentsError, match=r"samples must be a tensor, got ndarray; torch.as_tensor makes one"):
        TensorData(numpy.zeros((4, 2)))


def test_keys_beside_a_tensor_are_refused():
    with pytest.raises(BadArgumentsError, match="keys is for batches that are dictionaries, got it beside a Tensor"):
        make_batches(SAMPLES, batch_size=2, keys="image")


@pytest.mark.parametrize(
    ("got", "hint"),
    [
        ((28, 28), "; .reshape(-1, 1, 28, 28) adds what is missing"),
        ((784,), "; .reshape(-1, 1, 28, 28) adds what is missing"),
        ((3, 28, 28), "; torchvision's Grayscale changes the number of channels"),
        (
            (1, 28, 40),
            "; image_folder's size and fit, or torchvision's resize, center_crop and pad, give pictures one size",
        ),
        ((28, 28, 1), "; .permute puts the channels first"),
        ((5,), ""),
    ],
)
def test_a_wrong_shape_comes_with_what_to_do(got, hint):
    assert shape_hint((1, 28, 28), got) == hint
    with pytest.raises(ShapeError) as caught:
        make_batches(torch.rand(2, *got), batch_size=2, sample_shape=(1, 28, 28))
    assert str(caught.value) == f"data must have samples of shape (1, 28, 28), got {got}{hint}"
