"""The balance of classes is counted."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional import kl_divergence

from gankit.errors import BadArgumentsError, BadValueError, DataError, ShapeError
from gankit.metrics import ClassBalance, class_balance


def test_equal_shares():
    assert class_balance(torch.arange(10).repeat(3), 10) == ClassBalance(
        (0.1,) * 10, 0.1, 10, pytest.approx(0, abs=1e-12), 30
    )


def test_a_single_class():
    found = class_balance(torch.full((7,), 2), 4)
    assert found == ClassBalance((0.0, 0.0, 1.0, 0.0), 0.0, 1, pytest.approx(math.log(4)), 7)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_it_is_that_of_the_counts(labels):
    found = class_balance(torch.tensor(labels), 6)
    shares = [labels.count(one) / len(labels) for one in range(6)]
    assert found.shares == pytest.approx(shares)
    assert found.smallest_share == min(found.shares)
    assert found.found_classes == len(set(labels))
    theirs = kl_divergence(torch.tensor([shares]).double(), torch.full((1, 6), 1 / 6).double())
    assert found.kl == pytest.approx(float(theirs), abs=1e-6)
    assert -1e-12 <= found.kl <= math.log(6) + 1e-12
    assert found == class_balance(torch.tensor(labels[::-1]), 6)


def test_equal_classes_have_the_stated_divergence():
    labels = torch.randint(1000, (26_000,))
    assert class_balance(labels, 1000).kl == pytest.approx(999 / (2 * 26_000), rel=0.2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_integers_of_any_type_are_taken(dtype):
    assert class_balance(torch.tensor([0, 200], dtype=dtype), 256).found_classes == 2


@pytest.mark.parametrize(
    ("labels", "num_classes", "error", "message"),
    [
        (torch.zeros(3, 10), 10, ShapeError, r"labels must be \(N,\), got \(3, 10\)"),
        (torch.zeros(0).long(), 10, DataError, "labels must be one or more, got none"),
        (torch.zeros(3), 10, DataError, "labels must be integers, got torch.float32"),
        (torch.zeros(3).bool(), 2, DataError, "labels must be integers, got torch.bool"),
        (torch.tensor([0, 10]), 10, DataError, "labels must be from 0 to 9, got 0 to 10"),
        (torch.tensor([-1, 3]), 10, DataError, "labels must be from 0 to 9, got -1 to 3"),
        (torch.tensor([0]), 0, BadValueError, "num_classes must be above 0, got 0"),
        (torch.tensor([0]), 2.5, BadArgumentsError, "num_classes must be an integer, got 2.5"),
    ],
)
def test_what_does_not_fit_is_refused(labels, num_classes, error, message):
    with pytest.raises(error, match=message):
        class_balance(labels, num_classes)
