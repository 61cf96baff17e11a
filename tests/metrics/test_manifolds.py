"""Precision, recall, density and coverage are those of other libraries and of their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.metric_prc import prc_features_to_metric

from gankit.errors import BadArgumentsError, BadValueError, DataError, NonFiniteDataError, ShapeError
from gankit.metrics import coverage, density, manifolds, precision, recall

METRICS = [precision, recall, density, coverage]


def features(count: int, dimensions: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed)) * scale


def by_brute_force(metric, samples: torch.Tensor, real: torch.Tensor, neighbors: int) -> float:
    """A metric from the whole matrix of distances, without a matrix product."""

    def distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x[:, None] - y[None]).double().square().sum(2).sqrt()

    def inside(points: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
        return distances(points, centres) <= distances(centres, centres).sort(1).values[:, neighbors]

    if metric is recall:
        return float(inside(real, samples).any(1).double().mean())
    in_real = inside(samples, real)
    if metric is density:
        return float(in_real.sum() / (neighbors * len(samples)))
    return float(in_real.any(1 if metric is precision else 0).double().mean())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("neighbors", [1, 3, 5])
@pytest.mark.parametrize(("count", "other", "dimensions"), [(60, 90, 2), (90, 60, 10), (7, 6, 1), (1, 30, 3)])
@pytest.mark.parametrize("batch_size", [8, 1000])
def test_it_is_that_of_the_definition(metric, neighbors, count, other, dimensions, batch_size):
    samples, real = features(count, dimensions, 1, 0.8), features(other, dimensions)
    if metric is recall and count <= neighbors:
        with pytest.raises(DataError, match=f"samples must have {neighbors + 1} or more rows, got {count}"):
            recall(samples, real, neighbors=neighbors)
        return
    found = metric(samples, real, neighbors=neighbors, batch_size=batch_size)
    assert found == pytest.approx(by_brute_force(metric, samples, real, neighbors))


@pytest.mark.parametrize("neighbors", [1, 3, 5])
@pytest.mark.parametrize(("count", "other", "dimensions"), [(200, 300, 4), (300, 200, 30)])
def test_precision_and_recall_are_those_of_torch_fidelity(neighbors, count, other, dimensions):
    samples, real = features(count, dimensions, 1, 0.7), features(other, dimensions)
    theirs = prc_features_to_metric(samples, real, prc_neighborhood=neighbors, verbose=False)
    assert precision(samples, real, neighbors=neighbors) == pytest.approx(theirs["precision"])
    assert recall(samples, real, neighbors=neighbors) == pytest.approx(theirs["recall"])


def test_samples_of_the_real_distribution_have_the_expected_values():
    samples, real = features(1000, 2, 1), features(1000, 2)
    assert density(samples, real) == pytest.approx(1, abs=0.1)
    assert coverage(samples, real) == pytest.approx(1 - 2**-5, abs=0.02)


def test_precision_sees_noise_and_recall_sees_missing_modes():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    real = centres.repeat(50, 1) + features(200, 2, 1)
    half = centres[:2].repeat(100, 1) + features(200, 2, 2)
    assert precision(half, real) > 0.9
    assert recall(half, real) < 0.55
    assert coverage(half, real) < 0.55
    noisy = centres.repeat(50, 1) + features(200, 2, 3, 4.0)
    assert precision(noisy, real) < 0.6
    assert density(noisy, real) < 0.6 < density(half, real)


COUNTS = st.integers(6, 25)


@settings(deadline=None, max_examples=15)
@given(COUNTS, COUNTS, st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000))
def test_properties(count, other, dimensions, neighbors, seed):
    random = torch.Generator().manual_seed(seed)
    samples, real = (torch.randn(one, dimensions, generator=random).double() for one in (count, other))
    rotation = torch.linalg.qr(torch.randn(dimensions, dimensions, generator=random).double()).Q
    for metric in METRICS:
        found = metric(samples, real, neighbors=neighbors)
        assert 0 <= found <= (other / neighbors if metric is density else 1)
        assert metric(samples.flip(0), real, neighbors=neighbors) == found
        assert metric(samples, real.flip(0), neighbors=neighbors) == found
        assert metric(2 * samples @ rotation + 1, 2 * real @ rotation + 1, neighbors=neighbors) == found
    assert precision(samples, real, neighbors=neighbors) == recall(real, samples, neighbors=neighbors)


@settings(deadline=None, max_examples=15)
@given(COUNTS, st.integers(1, 5), st.integers(1, 5), st.integers(0, 5), st.integers(0, 1000))
def test_a_copy_of_the_real_set_has_the_best_values(count, dimensions, neighbors, duplicates, seed):
    real = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))
    real = torch.cat([real, real[:1].repeat(duplicates, 1)])
    copy = real.flip(0)
    for metric in (precision, recall, coverage):
        assert metric(copy, real, neighbors=neighbors, batch_size=7) == 1
    if not duplicates:
        assert density(copy, real, neighbors=neighbors, batch_size=7) == (neighbors + 1) / neighbors


@pytest.mark.parametrize("metric", METRICS)
def test_samples_far_away_have_the_worst_value(metric):
    assert metric(features(20, 3) + 1000, features(20, 3)) == 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_samples_that_are_not_finite_are_in_no_ball_and_have_none(value):
    real, good = features(30, 3), features(20, 3, 1)
    bad = torch.full((20, 3), 0.0)
    bad[:, 1] = value
    samples = torch.cat([bad, good])
    assert precision(samples, real) == precision(good, real) / 2
    assert density(samples, real) == density(good, real) / 2
    assert recall(samples, real) == recall(good, real)
    assert coverage(samples, real) == coverage(good, real)
    assert [metric(bad, real) for metric in METRICS] == [0, 0, 0, 0]
    assert recall(samples[:23], real) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_no_more_than_a_block_is_compared_at_a_time(metric, monkeypatch):
    shapes = []

    def recorded(rows, columns):
        shapes.append((len(rows), len(columns)))
        return squared_distances(rows, columns)

    squared_distances = manifolds.squared_distances
    monkeypatch.setattr(manifolds, "squared_distances", recorded)
    metric(features(25, 3), features(15, 3), batch_size=10)
    assert max(max(shape) for shape in shapes) == 10
    of_radii = 9 if metric is recall else 4
    assert len(shapes) == of_radii + 6


@pytest.mark.parametrize("metric", METRICS)
def test_no_gradient_is_needed_and_other_types_are_taken(metric):
    samples, real = features(20, 3).requires_grad_(), features(20, 3, 1)
    found = metric(samples, real)
    assert metric(samples.detach().double(), real) == found
    assert metric(samples.detach().half(), real.bfloat16()) == pytest.approx(found, abs=0.15)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"neighbors": 0}, BadValueError, "neighbors must be above 0, got 0"),
        ({"neighbors": 2.0}, BadArgumentsError, "neighbors must be an integer, got 2.0"),
        ({"neighbors": 6}, DataError, "must have 7 or more rows, got 6"),
        ({"batch_size": 0}, BadValueError, "batch_size must be above 0, got 0"),
        ({"samples": torch.zeros(6, 1, 2)}, ShapeError, r"samples must be features \(N, d\)"),
        ({"samples": torch.zeros(0, 2)}, DataError, "samples must have 1 or more rows, got 0"),
        ({"real": torch.zeros(6, 3)}, ShapeError, r"real must be \(N, 2\)"),
        ({"real": torch.zeros(0, 2)}, DataError, "real must have . or more rows, got 0"),
        ({"real": torch.full((6, 2), torch.nan)}, NonFiniteDataError, "real must be finite"),
        ({"real": torch.zeros(6, 2).byte()}, BadArgumentsError, "real must be floating-point numbers"),
    ],
)
def test_what_does_not_fit_is_refused(metric, arguments, error, message):
    with pytest.raises(error, match=message):
        metric(**{"samples": torch.zeros(6, 2), "real": torch.zeros(6, 2), **arguments})
