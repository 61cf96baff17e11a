"""Batches are checked before a step takes them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit.errors import BadArgumentsError, DataError, ShapeError
from gankit.training.step.batches import BatchCheck
from tests.training.steps import CLASSES, SHAPE, make, small_networks, stacked


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        (torch.zeros(6, 1, 5, 5), ShapeError, r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"),
        (torch.zeros(6, *SHAPE, dtype=torch.uint8), DataError, "floating point, got torch.uint8"),
        (torch.zeros(1, *SHAPE), DataError, "2 samples or more for BatchNorm, got 1"),
        (torch.zeros(0, *SHAPE), DataError, "2 samples or more for BatchNorm, got 0"),
        ("digits", DataError, r"must be `real` or `\(real, condition\)`, got str"),
        ((torch.zeros(6, *SHAPE), torch.zeros(5)), ShapeError, "one entry per sample, got 5 for 6"),
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


# --- what a step takes -----------------------------------------------------------------------------------


def check(**options):
    return BatchCheck(make(**options).state)


def test_a_batch_gets_the_type_of_the_networks_and_its_labels_keep_theirs():
    real, condition = check(classes=CLASSES)((torch.zeros(6, *SHAPE, dtype=torch.float64), torch.zeros(6, dtype=int)))
    assert (real.dtype, condition.dtype) == (torch.float32, torch.int64)
    real, condition = check(dtype=torch.float64)(torch.zeros(6, *SHAPE))
    assert (real.dtype, condition) == (torch.float64, None)


@pytest.mark.parametrize("kind", [tuple, list])
def test_samples_alone_may_be_in_a_sequence(kind):
    samples = torch.zeros(6, *SHAPE)
    assert check()(kind([samples]))[0] is samples


def test_a_batch_that_is_right_is_not_copied():
    samples, labels = torch.zeros(6, *SHAPE), torch.zeros(6, dtype=int)
    real, condition = check(classes=CLASSES)((samples, labels))
    assert real is samples
    assert condition is labels


def test_networks_that_need_a_condition_are_checked_with_the_first_batch():
    conditional = check(classes=CLASSES)
    with pytest.raises(ShapeError, match=r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"):
        conditional((torch.zeros(6, 1, 5, 5), torch.zeros(6, dtype=int)))
    conditional((torch.zeros(6, *SHAPE), torch.zeros(6, dtype=int)))
    with pytest.raises(ShapeError, match=r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"):
        conditional((torch.zeros(6, 1, 5, 5), torch.zeros(6, dtype=int)))


def test_networks_without_batch_norm_take_a_single_sample():
    def without_norm(classes, dtype):
        return nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, SHAPE)), small_networks(classes, dtype)[1]

    single = check(networks=without_norm)
    assert len(single(torch.zeros(1, *SHAPE))[0]) == 1
    with pytest.raises(DataError, match="a batch must have samples, got 0"):
        single(torch.zeros(0, *SHAPE))


REPLICAS = {
    "no replica": (
        torch.zeros(6, *SHAPE),
        r"a batch for 2 replicas must be \(2, N, \*sample_shape\), got \(6, 1, 4, 4\)",
    ),
    "no sample": (torch.zeros(2), r"must be \(2, N, \*sample_shape\), got \(2,\)"),
    "another size": (torch.zeros(2, 6, 1, 5, 5), r"generator's shape \(1, 4, 4\), got \(1, 5, 5\)"),
    "one condition for all": ((torch.zeros(2, 6, *SHAPE), torch.zeros(6)), "one entry per sample"),
}


@pytest.mark.parametrize("case", REPLICAS)
def test_replicas_need_a_batch_each(case):
    batch, says = REPLICAS[case]
    together = check(networks=stacked(small_networks, 2))
    assert together(torch.zeros(2, 6, *SHAPE))[0].shape == (2, 6, *SHAPE)
    with pytest.raises((ShapeError, DataError), match=says) as caught:
        together(batch)
    assert "\n" not in str(caught.value)


def test_more_than_samples_and_a_condition_is_refused():
    with pytest.raises(DataError, match=r"a batch must be `real` or `\(real, condition\)`, got tuple"):
        check()((torch.zeros(6, *SHAPE), torch.zeros(6), torch.zeros(6)))
