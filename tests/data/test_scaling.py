"""Values inside the range but in another scale get one warning; ordinary pictures get none."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gankit.data import DATASETS, TensorBatches, make_batches
from gankit.errors import DataError, DataWarning

SHAPE = (20, 1, 8, 8)
UNIT = torch.linspace(0, 1, 20 * 64).view(SHAPE)
ODD = {
    "[0, 1] for [-1, 1]": (UNIT, (-1.0, 1.0), "values from -1 to 1, and have values from 0 to 1"),
    "bytes of 0 and 1": ((UNIT > 0.5).byte(), (0.0, 1.0), "bytes from 0 to 255, and have bytes from 0 to 1"),
    "divided twice": (UNIT / 255, (0.0, 1.0), "values from 0 to 1, and have values from 0 to 0.00392157"),
    "all black": (torch.zeros(SHAPE), (0.0, 1.0), "values from 0 to 1, and have values from 0 to 0"),
    "black bytes": (torch.zeros(SHAPE, dtype=torch.uint8), (-1.0, 1.0), "255, and have bytes from 0 to 0"),
    "all black in [-1, 1]": (
        torch.full(SHAPE, -1.0),
        (-1.0, 1.0),
        "values from -1 to 1, and have values from -1 to -1",
    ),
}
SOURCES = {
    "memory": lambda data: data,
    "a data set": TensorDataset,
    "a loader": lambda data: DataLoader(TensorDataset(data), 20),
    "a list": lambda data: [data, data],
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ODD)
def test_another_scale_gets_one_warning(kind, source):
    data, sample_range, says = ODD[kind]

    def read_twice():
        batches = make_batches(SOURCES[source](data), batch_size=20, sample_range=sample_range)
        return [list(batches) for _ in range(2)]

    with pytest.warns(DataWarning, match=f"are expected to have .*{says}, which seems to be another scale") as caught:
        read_twice()
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("data", "sample_range"),
    [
        (UNIT, (0.0, 1.0)),
        (UNIT * 2 - 1, (-1.0, 1.0)),
        (UNIT / 4, (0.0, 1.0)),
        (0.5 + UNIT / 2, (0.0, 1.0)),
        (UNIT - 1, (-1.0, 1.0)),
        ((UNIT * 255).byte(), (-1.0, 1.0)),
        (UNIT * 0, None),
        (UNIT[:2] * 0, (0.0, 1.0)),
    ],
    ids=["[0, 1]", "[-1, 1]", "dark", "bright", "dark in [-1, 1]", "bytes", "no range", "few values"],
)
def test_ordinary_values_get_none(data, sample_range):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TensorBatches(data, batch_size=2, sample_range=sample_range)


def test_the_digits_get_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_batches(DATASETS.build("mnist_5k"), batch_size=2, sample_range=(-1.0, 1.0))


def test_sparse_data_are_refused():
    with pytest.raises(DataError, match=r"must be dense, got torch.sparse_coo; .to_dense\(\) makes them so"):
        make_batches(torch.zeros(SHAPE).to_sparse(), batch_size=2)
