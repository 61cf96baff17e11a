"""Modes of StackedMNIST are counted as the papers count them."""

from __future__ import annotations

import math

import pytest
import torch

from gankit.data import mnist_test_2k
from gankit.errors import BadArgumentsError, DataError, ShapeError
from gankit.metrics import StackedMnistEvaluator, stacked_mnist_modes
from gankit.metrics.mnist import classifier, stacked

DIGITS = mnist_test_2k()


def one_of(label):
    """A digit that the classifier takes for what it is."""
    images = DIGITS.samples[DIGITS.labels == label][:20] / 255
    labels = classifier.features_and_labels(images)[1]
    return images[labels == label][0, 0]


def stack(*labels):
    return torch.stack([one_of(label) for label in labels])


def test_a_mode_is_the_classes_of_the_three_channels_in_order():
    samples = torch.stack([stack(1, 2, 3), stack(3, 2, 1), stack(1, 2, 3), stack(0, 0, 0)])
    found = stacked_mnist_modes(samples)
    assert (found.captured_modes, found.samples) == (3, 4)
    assert found.reverse_kl == pytest.approx(0.5 * math.log(0.5 * 1000) + 0.5 * math.log(0.25 * 1000))


def test_the_divergence_of_even_and_of_random_modes():
    every = torch.cartesian_prod(*[torch.arange(10)] * 3)
    even = stacked._modes_of(every.repeat(2, 1))
    assert (even.captured_modes, even.samples) == (1000, 2000)
    assert even.reverse_kl == pytest.approx(0, abs=1e-12)
    random = stacked._modes_of(torch.randint(10, (26_000, 3)))
    assert random.captured_modes == 1000
    assert random.reverse_kl == pytest.approx(999 / 52_000, rel=0.2)  # half a chi-squared variable over n


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        (torch.zeros(2, 1, 28, 28), ShapeError, r"samples must be \(N, 3, 28, 28\), got \(2, 1, 28, 28\)"),
        (torch.zeros(2, 3, 28, 28).long(), BadArgumentsError, "got torch.int64"),
        (torch.full((2, 3, 28, 28), -1.0), DataError, r"in \[0, 1\]"),
        (torch.full((2, 3, 28, 28), torch.nan), DataError, "nan"),
        (torch.zeros(0, 3, 28, 28), DataError, "got none"),
    ],
    ids=["channels", "integers", "range", "nan", "none"],
)
def test_what_is_refused(samples, error, words):
    with pytest.raises(error, match=words):
        stacked_mnist_modes(samples)


def test_the_evaluator_compares_with_real_digits(monkeypatch):
    monkeypatch.setattr(stacked, "_SAMPLES", 300)
    monkeypatch.setattr(stacked, "_REAL_DIGITS", 500)
    stacked._floor.cache_clear()
    evaluate = StackedMnistEvaluator(sample_range=(-1.0, 1.0))
    assert evaluate.samples == 300
    samples = torch.stack([stack(1, 2, 3), stack(3, 2, 1)]).repeat(150, 1, 1, 1)
    scores = evaluate(2 * samples - 1)
    assert list(scores) == ["stacked_mnist_reverse_kl", "stacked_mnist_modes"]
    assert scores["stacked_mnist_modes"].value == 2
    assert scores["stacked_mnist_modes"].real > 200
    assert scores["stacked_mnist_reverse_kl"].value == pytest.approx(math.log(500))
    assert scores["stacked_mnist_reverse_kl"].real < 2
    stacked._floor.cache_clear()
