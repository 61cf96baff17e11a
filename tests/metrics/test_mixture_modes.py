"""Modes are counted as the papers count them."""

from __future__ import annotations

import math

import pytest
import torch

from gankit.data import DATASETS, ring
from gankit.errors import BadValueError, DataError, ShapeError
from gankit.metrics import ModeCoverage, mode_coverage

RING = ring()
CEILING = 1 - math.exp(-4.5)


def coverage(samples, data=RING):
    return mode_coverage(samples, data.modes, data.standard_deviation)


@pytest.mark.parametrize("name", ["ring", "grid"])
def test_a_perfect_generator_reaches_the_ceiling_and_no_more(name):
    data = DATASETS.build(name)
    count = 40_000
    found = coverage(data.sample(count, generator=torch.Generator().manual_seed(0)), data)
    assert found.captured_modes == found.modes == len(data.modes)
    assert found.samples == count
    deviation = math.sqrt(CEILING * (1 - CEILING) / count)
    assert abs(found.high_quality_share - CEILING) < 4 * deviation
    expected = (found.modes - 1) / (2 * count)  # half a chi-squared variable over n
    assert 0 < found.reverse_kl < 4 * expected


def test_a_generator_that_knows_one_mode_alone():
    found = coverage(RING.modes[2].repeat(100, 1))
    assert found == ModeCoverage(1, 8, 1.0, pytest.approx(math.log(8)), 100)


def test_the_reverse_kl_is_that_of_the_shares():
    samples = RING.modes[torch.tensor([0, 0, 0, 1])]
    expected = 0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8)
    assert coverage(samples).reverse_kl == pytest.approx(expected)


def test_equal_shares_have_no_divergence():
    found = coverage(RING.modes)
    assert (found.captured_modes, found.high_quality_share) == (8, 1.0)
    assert found.reverse_kl == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("distance", "is_good"), [(2.99, True), (3.01, False)])
def test_high_quality_ends_at_three_standard_deviations(distance, is_good):
    direction = torch.tensor([0.6, 0.8])
    found = coverage(RING.modes[:1] + distance * 0.01 * direction)
    assert found.high_quality_share == float(is_good)
    assert found.captured_modes == int(is_good)


def test_a_sample_far_from_all_modes_counts_for_the_nearest_but_captures_none():
    found = coverage(torch.tensor([[5.0, 0.1], [5.0, -0.1]]))
    assert found == ModeCoverage(0, 8, 0.0, pytest.approx(math.log(8)), 2)


def test_samples_that_are_not_finite_are_of_low_quality_and_in_no_mode():
    nan = torch.full((3, 2), torch.nan)
    nan[1, 0] = torch.inf
    found = coverage(torch.cat([RING.modes[:1], nan]))
    assert found == ModeCoverage(1, 8, 0.25, pytest.approx(math.log(8)), 4)
    none = coverage(nan)
    assert (none.captured_modes, none.high_quality_share) == (0, 0.0)
    assert math.isnan(none.reverse_kl)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_taken(dtype):
    assert coverage(torch.tensor([[1.0, 0.0]], dtype=dtype)).captured_modes == 1


def test_the_scale_of_the_plane_does_not_matter():
    samples = RING.sample(500, generator=torch.Generator().manual_seed(1))
    small = mode_coverage(samples / 4, RING.modes / 4, 0.01 / 4)
    assert small.captured_modes == coverage(samples).captured_modes
    assert small.high_quality_share == coverage(samples).high_quality_share


@pytest.mark.parametrize(
    ("samples", "modes", "deviation", "error"),
    [
        (torch.zeros(3), RING.modes, 0.1, ShapeError),
        (torch.zeros(3, 3), RING.modes, 0.1, ShapeError),
        (torch.zeros(3, 2), torch.zeros(0, 2), 0.1, ShapeError),
        (torch.zeros(0, 2), RING.modes, 0.1, DataError),
        (torch.zeros(3, 2), RING.modes, 0.0, BadValueError),
    ],
)
def test_what_does_not_fit_is_refused(samples, modes, deviation, error):
    with pytest.raises(error):
        mode_coverage(samples, modes, deviation)
