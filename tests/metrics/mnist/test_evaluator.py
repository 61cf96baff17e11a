"""Scores of generated digits: beside those of real ones, and worse for worse digits."""

from __future__ import annotations

import math
import os

import pytest
import torch

from gankit.data import mnist_5k
from gankit.errors import BadArgumentsError, BadValueError, DataError, DeviceError, ShapeError
from gankit.metrics import MnistEvaluator
from gankit.metrics.mnist import classifier, evaluator
from gankit.metrics.mnist.digits_evaluator import held_out_digits, training_digits
from tools.train_mnist_classifier import blurred, noisy

EVALUATE = MnistEvaluator()
COUNT = EVALUATE.samples
REAL = training_digits(None, COUNT)


@pytest.fixture(scope="module")
def scores():
    """The scores of real digits in the place of samples."""
    return EVALUATE(REAL)


def test_the_floor_is_what_real_digits_score(scores):
    assert list(scores) == list(EVALUATE.metrics)
    for name, score in scores.items():
        assert math.isfinite(score.real), name
        assert score.value == pytest.approx(score.real), name
        assert (score.better, score.samples) == (EVALUATE.metrics[name], COUNT)


def test_real_digits_are_in_all_classes(scores):
    assert scores["mnist_classes"].value == 10
    assert 0.08 < scores["mnist_smallest_class_share"].value <= 0.1


def test_digits_to_compare_with_are_not_those_of_the_floor():
    test = {row.numpy().tobytes() for row in held_out_digits(None)}
    assert len(test) == COUNT
    assert not test & {row.numpy().tobytes() for row in REAL}


def spoiled(how):
    random = torch.Generator().manual_seed(0)
    if how == "noise":
        return noisy(REAL, torch.full((COUNT,), 0.2), random)
    if how == "blur":
        return blurred(REAL, torch.full((COUNT,), 1.0))
    if how == "one class":
        data = mnist_5k()
        return (data.samples[data.labels == 1] / 255).repeat(4, 1, 1, 1)
    return REAL[:100].repeat(20, 1, 1, 1)


DISTANCES = ["mnist_frechet_distance", "mnist_kernel_distance"]


@pytest.mark.parametrize(
    ("how", "metrics"),
    [
        ("noise", [*DISTANCES, "mnist_recall", "mnist_coverage", "mnist_precision", "mnist_density"]),
        ("blur", [*DISTANCES, "mnist_recall", "mnist_coverage", "mnist_precision", "mnist_density"]),
        ("one class", [*DISTANCES, "mnist_recall", "mnist_coverage", "mnist_classes", "mnist_smallest_class_share"]),
        ("copies", ["mnist_frechet_distance", "mnist_recall", "mnist_coverage"]),
    ],
)
def test_worse_digits_score_worse(scores, how, metrics):
    worse = EVALUATE(spoiled(how))
    assert set(worse) == set(scores)
    for name in metrics:
        assert scores[name].is_better_than(worse[name]), name
        assert abs(worse[name].value - scores[name].value) > 0.1 * abs(scores[name].value), name


@pytest.mark.parametrize("slack", [0, 1e-4])
def test_samples_in_another_range_are_scaled(scores, monkeypatch, slack):
    seen = []
    monkeypatch.setattr(MnistEvaluator, "_values", lambda self, images: seen.append(images) or {})
    MnistEvaluator(sample_range=(-1.0, 1.0))((2 * REAL - 1) * (1 + slack))
    assert torch.allclose(seen[0], REAL, atol=1e-4)
    assert (seen[0].min(), seen[0].max()) == (0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_samples_that_are_not_finite_score_nan_beside_the_floor(scores, bad):
    samples = REAL.clone()
    samples[7, 0, 3, 3] = bad
    for name, score in EVALUATE(samples).items():
        assert math.isnan(score.value)
        assert score.real == scores[name].real


def test_a_generator_that_makes_one_picture_is_scored():
    found = EVALUATE(torch.zeros(COUNT, 1, 28, 28))
    assert found["mnist_classes"].value == 1
    assert found["mnist_coverage"].value < 0.01


def test_real_digits_are_classified_once(scores, monkeypatch):
    counts = []
    monkeypatch.setattr(evaluator, "features_and_labels", lambda images: counts.append(len(images)) or classify(images))
    classify = classifier.features_and_labels
    MnistEvaluator()(REAL)
    assert counts == [COUNT]


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        (REAL[:100], ShapeError, r"samples must be \(2000, 1, 28, 28\), got \(100, 1, 28, 28\)"),
        (torch.zeros(COUNT, 784), ShapeError, r"got \(2000, 784\)"),
        (torch.zeros(COUNT, 1, 28, 28).byte(), BadArgumentsError, "got torch.uint8"),
        (2 * REAL - 1, DataError, r"samples must be in \[0, 1\], got values from -1 to 1"),
    ],
    ids=["count", "shape", "bytes", "range"],
)
def test_samples_that_are_refused(samples, error, words):
    with pytest.raises(error, match=words):
        EVALUATE(samples)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sample_range": (1.0, 0.0)}, BadValueError, r"sample_range must be \(low, high\) with low below high"),
        ({"sample_range": (0.0, math.inf)}, BadValueError, "sample_range must be finite"),
        ({"device": "gpu"}, DeviceError, "device must be one torch knows"),
    ],
    ids=["reversed", "infinite", "device"],
)
def test_arguments_that_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        MnistEvaluator(**arguments)


@pytest.mark.mnist
@pytest.mark.slow
@pytest.mark.skipif(
    "GANKIT_TEST_DATA" not in os.environ, reason="GANKIT_TEST_DATA names no folder that holds MNIST/raw"
)
def test_full_mnist_has_a_likelihood_too():
    evaluate = MnistEvaluator(os.environ["GANKIT_TEST_DATA"])
    assert evaluate.samples == 10_000
    found = evaluate(torch.full((10_000, 1, 28, 28), torch.nan))
    assert list(found) == [*EVALUATE.metrics, "parzen_log_likelihood", "parzen_log_likelihood/validation"]
    assert all(math.isfinite(score.real) for score in found.values())
    # the first 10,000 training digits on the full test set with the bandwidth chosen on other training digits
    assert found["parzen_log_likelihood"].real == pytest.approx(241, abs=1)
