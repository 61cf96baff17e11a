"""Distances between all pairs, and what is refused before any is computed."""

from __future__ import annotations

import pytest
import torch

from gankit.errors import BadArgumentsError, DataError, NonFiniteDataError, ShapeError
from gankit.metrics.pairs import blocks, check_features, check_rows, computing_device, squared_distances


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-6, 0), (1e6, 0), (1, 100)])
def test_distances_are_those_of_single_pairs(scale, offset):
    rows, columns = (torch.randn(count, 64).double() * scale + offset for count in (5, 7))
    expected = (rows[:, None] - columns[None]).square().sum(2)
    assert torch.allclose(squared_distances(rows, columns), expected, rtol=1e-9, atol=0)


def test_equal_rows_have_no_distance_and_none_is_negative():
    rows = torch.rand(300, 784).double() + 10
    found = squared_distances(rows[:100], torch.cat([rows, rows + 1e-13]))
    assert not found.diagonal().any()
    assert not found[:, 300:].diagonal().any()
    assert (found >= 0).all()
    assert (found == 0).sum() == 200


def test_blocks_are_in_float64_and_flat():
    rows = torch.rand(5, 2, 3)
    found = list(blocks(rows, 2, torch.device("cpu")))
    assert [len(one) for one in found] == [2, 2, 1]
    assert torch.equal(torch.cat(found), rows.double().flatten(1))


@pytest.mark.parametrize(("kind", "expected"), [("mps", "cpu"), ("meta", "meta"), ("cpu", "cpu")])
def test_a_device_without_float64_is_left(kind, expected):
    class OnDevice:
        device = torch.device(kind)

    assert computing_device(OnDevice()).type == expected  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("samples", "real", "error", "message"),
    [
        (torch.zeros(3), torch.zeros(3, 2), ShapeError, r"samples must be features \(N, d\), got \(3,\)"),
        (torch.zeros(3, 2), torch.zeros(3, 4), ShapeError, r"real must be \(N, 2\) like the other set, got \(3, 4\)"),
        (torch.zeros(3, 0), torch.zeros(3, 0), ShapeError, "one or more numbers per row"),
        (torch.zeros(0, 2), torch.zeros(3, 2), DataError, "samples must have 1 or more rows, got 0"),
        (torch.zeros(3, 2), torch.zeros(0, 2), DataError, "real must have 1 or more rows, got 0"),
        (torch.zeros(3, 2).byte(), torch.zeros(3, 2), BadArgumentsError, "samples must be floating-point numbers"),
        (
            torch.zeros(3, 2),
            torch.tensor([[0, torch.nan], [0, 1], [torch.inf, torch.nan]]),
            NonFiniteDataError,
            "real must be finite, got NaN or infinity in 2 of 3 rows",
        ),
    ],
)
def test_what_does_not_fit_is_refused(samples, real, error, message):
    with pytest.raises(error, match=message):
        check_features(samples, real)


def test_rows_of_any_shape_are_taken():
    check_rows("samples", torch.full((2, 1, 28, 28), torch.nan))
    check_rows("data", torch.zeros(2, 1, 28, 28), like=torch.zeros(9, 1, 28, 28), finite=True)
