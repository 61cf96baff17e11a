"""Batches are checked before a step takes them."""

from __future__ import annotations

import pytest
import torch

from gankit.errors import BadArgumentsError, DataError, ShapeError
from tests.training.steps import SHAPE


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        (torch.zeros(6, 1, 5, 5), ShapeError, r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"),
        (torch.zeros(6, *SHAPE, dtype=torch.uint8), DataError, "floating point, got torch.uint8"),
        (torch.zeros(1, *SHAPE), DataError, "2 samples or more for BatchNorm, got 1"),
        (torch.zeros(0, *SHAPE), DataError, "2 samples or more for BatchNorm, got 0"),
        ("digits", DataError, r"must be `real` or `\(real, condition\)`, got str"),
        ((torch.zeros(6, *SHAPE), torch.zeros(5)), ShapeError, "one entry a sample, got 5 for 6"),
        (
            (torch.zeros(6, *SHAPE), torch.zeros(6)),
            BadArgumentsError,
            r"carry a condition of shape \(6,\), which the generator Sequential does not take",
        ),
    ],
    ids=["shape", "bytes", "one sample", "no sample", "no tensor", "short condition", "unwanted condition"],
)
def test_a_bad_batch_is_refused_in_one_sentence(make_trainer, batch, error, says):
    with pytest.raises(error, match=says):
        make_trainer().step(batch)
