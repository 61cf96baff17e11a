import math

import pytest
import torch

from gankit import metrics
from gankit.errors import DataError
from gankit.metrics import FEATURE_METRICS, feature_values


def normal(count, mean=0.0, seed=0):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) + mean


@pytest.mark.parametrize("metric", FEATURE_METRICS)
def test_each_value_is_that_of_the_function_of_the_same_name(metric):
    samples, real = normal(40, 0.5), normal(60, seed=1)
    found = feature_values(samples, real)[metric]
    if metric == "kernel_distance":
        assert found == metrics.kernel_distance(samples, real, subsets=1, subset_size=40).mean
    else:
        assert found == getattr(metrics, metric)(samples, real)


@pytest.mark.parametrize("metric", FEATURE_METRICS)
def test_the_better_samples_have_the_better_value(metric):
    real, good, bad = normal(200), normal(200, seed=1), normal(200, 2.0, seed=2)
    difference = feature_values(good, real)[metric] - feature_values(bad, real)[metric]
    assert difference > 0 if FEATURE_METRICS[metric] == "higher" else difference < 0


def test_the_kernel_distance_has_as_many_subsets_as_there_are(monkeypatch):
    monkeypatch.setattr("gankit.metrics.feature_scores._MOST_IN_SUBSET", 15)
    samples, real = normal(50), normal(40, seed=1)
    expected = metrics.kernel_distance(samples, real, subsets=2, subset_size=15).mean
    assert feature_values(samples, real)["kernel_distance"] == expected


def test_distances_of_samples_that_are_not_finite_are_nan():
    samples = normal(40)
    samples[3] = math.nan
    values = feature_values(samples, normal(40, seed=1))
    assert math.isnan(values["frechet_distance"])
    assert math.isnan(values["kernel_distance"])


@pytest.mark.parametrize("counts", [(40, 5), (1, 40), (0, 40)])
def test_too_few_features_are_refused(counts):
    with pytest.raises(DataError):
        feature_values(*map(normal, counts))
