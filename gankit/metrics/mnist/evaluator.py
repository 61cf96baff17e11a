"""`MnistEvaluator`: how good generated digits are, beside real ones."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from gankit.data.digits import mnist
from gankit.data.scaling import scaled
from gankit.metrics.classes import class_balance
from gankit.metrics.feature_scores import FEATURE_METRICS, feature_values
from gankit.metrics.mnist.classifier import features_and_labels
from gankit.metrics.mnist.digits_evaluator import DigitsEvaluator, held_out_digits, training_digits
from gankit.metrics.parzen import parzen_log_likelihood
from gankit.metrics.scores import Better

SMALLEST_SHARE = 0.03
"""The share of the samples from which a class counts as generated."""

_METRICS: dict[str, Better] = {
    **{f"mnist_{name}": better for name, better in FEATURE_METRICS.items()},
    "mnist_smallest_class_share": "higher",
    "mnist_classes": "higher",
}
_FULL_METRICS: dict[str, Better] = {
    **_METRICS,
    "parzen_log_likelihood": "higher",
    "parzen_log_likelihood/validation": "higher",
}


class MnistEvaluator(DigitsEvaluator):
    """Scores generated digits in the features of `mnist_classifier`.

    The names of the metrics say MNIST, because values in other features, such as Inception's, do not compare with them.

    - `mnist_frechet_distance` and `mnist_kernel_distance` to real test digits, lower is better.
    - `mnist_recall`, `mnist_coverage`, `mnist_precision` and `mnist_density` of the same two sets.
    - `mnist_smallest_class_share`: the share of the class that is predicted least often, at most 0.1.
    - `mnist_classes`: the number of classes with at least 3 % of the samples, of ten.
    - `parzen_log_likelihood`, with `root` only: of the pixels of the test set, in nats, with the bandwidth chosen on
      the first 1,000 of the training digits 50,000 to 59,999 (Goodfellow et al. 2014, section 5).
    - `parzen_log_likelihood/validation`, with `root` only: of those 1,000 digits, by which the best step of a training
      on the first 50,000 can be chosen.

    Beside each value stands that of as many real training digits in the place of the samples, random ones by a fixed
    seed. For the log-likelihood they are the first 10,000. The metrics depend on the number of samples, so it is fixed.

    Args:
        root: The folder that contains MNIST: 10,000 samples are compared with the 10,000 test digits. None compares
            2,000 samples with the 2,000 random test digits that come with gankit.
        sample_range: The range of the samples, such as (-1.0, 1.0).
        device: The device to compute on. None for that of the samples.

    Raises:
        BadValueError: If `sample_range` is not `(low, high)`.
        DeviceError: If torch does not know the device, or this machine does not have it.

    Example:
        >>> evaluate = MnistEvaluator()
        >>> scores = evaluate(torch.rand(evaluate.samples, 1, 28, 28))
        >>> distance = scores["mnist_frechet_distance"]
        >>> distance.value > 100 * distance.real, scores["mnist_classes"].real
        (True, 10.0)
    """

    channels = 1

    @property
    @override
    def samples(self) -> int:
        """The number of samples that it scores: 10,000 with full MNIST, and 2,000 without."""
        return 2_000 if self.root is None else 10_000

    @property
    @override
    def metrics(self) -> Mapping[str, Better]:
        return _METRICS if self.root is None else _FULL_METRICS

    @override
    def _values(self, images: Tensor) -> Mapping[str, float]:
        reference = _reference(self.root, images.device)
        return {**_digit_values(images, reference), **_pixel_values(images, reference)}

    @override
    def _real_values(self, device: torch.device) -> Mapping[str, float]:
        return _floor(self.root, device)


@dataclass(frozen=True, eq=False)
class _Reference:
    """Test digits in [0, 1] and their features; with full MNIST, the digits by which a bandwidth is chosen."""

    images: Tensor
    features: Tensor
    validation: Tensor | None


@functools.cache
def _reference(root: str | None, device: torch.device) -> _Reference:
    images = held_out_digits(root).to(device)
    validation = None if root is None else _part_of_mnist(root, 50_000, 51_000).to(device)
    return _Reference(images, features_and_labels(images)[0], validation)


@functools.cache
def _floor(root: str | None, device: torch.device) -> Mapping[str, float]:
    reference = _reference(root, device)
    images = training_digits(root, len(reference.images)).to(device)
    first = images if root is None else _part_of_mnist(root, 0, 10_000).to(device)
    return {**_digit_values(images, reference), **_pixel_values(first, reference)}


def _part_of_mnist(root: str, start: int, stop: int) -> Tensor:
    return scaled(mnist(root, start=start, stop=stop, download=False).samples, (0.0, 1.0))


def _digit_values(images: Tensor, reference: _Reference) -> dict[str, float]:
    features, labels = features_and_labels(images)
    balance = class_balance(labels, 10)
    return {
        **{f"mnist_{name}": value for name, value in feature_values(features, reference.features).items()},
        "mnist_smallest_class_share": balance.smallest_share,
        "mnist_classes": float(sum(share >= SMALLEST_SHARE for share in balance.shares)),
    }


def _pixel_values(images: Tensor, reference: _Reference) -> dict[str, float]:
    if reference.validation is None:
        return {}
    found = parzen_log_likelihood(images, reference.images, validation=reference.validation)
    chosen_by = parzen_log_likelihood(images, reference.validation, found.bandwidth)
    return {"parzen_log_likelihood": found.mean, "parzen_log_likelihood/validation": chosen_by.mean}
