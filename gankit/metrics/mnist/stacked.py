"""StackedMNIST: how many of 1,000 combinations of three digits a generator makes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from gankit.errors import DataError
from gankit.metrics.classes import class_balance
from gankit.metrics.mnist.classifier import check_images, features_and_labels
from gankit.metrics.mnist.digits_evaluator import DigitsEvaluator, training_digits
from gankit.metrics.scores import Better

_MODES = 1_000
_SAMPLES = 26_000
_REAL_DIGITS = 5_000
_METRICS: dict[str, Better] = {"stacked_mnist_reverse_kl": "lower", "stacked_mnist_modes": "higher"}


@dataclass(frozen=True)
class StackedMnistModes:
    """The result of `stacked_mnist_modes`.

    Args:
        captured_modes: The number of modes with at least one sample, of 1,000.
        reverse_kl: The reverse KL divergence in nats, from 0 to `log(1000)`, 6.908.
        samples: The number of samples.
    """

    captured_modes: int
    reverse_kl: float
    samples: int


def stacked_mnist_modes(samples: Tensor) -> StackedMnistModes:
    """Return how many of the 1,000 combinations of three digits were generated, and how evenly.

    A sample has a digit in each of its three channels, which `mnist_classifier` classifies one by one. The three
    classes are its mode. A mode is *captured* if a sample has it. The *reverse KL* divergence is
    `sum_k q_k log(q_k / p_k)`, where `q_k` is the share of mode `k` among the samples, and `p` is uniform. The data set
    and the protocol with 26,000 samples are those of Srivastava et al. 2017 (VEEGAN) and Lin et al. 2018 (PacGAN,
    section 4.2).

    Both depend on the number of samples: 26,000 samples of a perfect generator have a divergence of about
    `999 / 52,000`, 0.019. MNIST's classes are not quite equally frequent, which adds about 0.005.

    Args:
        samples: The samples, `(N, 3, 28, 28)` in [0, 1].

    Raises:
        BadArgumentsError: If the samples are not of a floating-point type.
        ShapeError: If they have another shape.
        DataError: If there are none, or a value is outside [0, 1] or not finite.

    Example:
        >>> found = stacked_mnist_modes(torch.zeros(10, 3, 28, 28))
        >>> found.captured_modes, round(found.reverse_kl, 3)
        (1, 6.908)
    """
    check_images(samples, channels=3, name="samples")
    if not len(samples):
        raise DataError("samples must be one or more, got none")
    labels = [features_and_labels(batch.flatten(0, 1).unsqueeze(1))[1] for batch in torch.split(samples, 1_000)]
    return _modes_of(torch.cat(labels).reshape(-1, 3))


def _modes_of(labels: Tensor) -> StackedMnistModes:
    """Return the result for the labels of the three digits of each sample, `(N, 3)`."""
    found = class_balance((labels * labels.new_tensor([100, 10, 1])).sum(1), _MODES)
    return StackedMnistModes(found.found_classes, found.kl, found.samples)


class StackedMnistEvaluator(DigitsEvaluator):
    """Scores 26,000 samples of three stacked digits by `stacked_mnist_modes`.

    The scores are `stacked_mnist_reverse_kl` and `stacked_mnist_modes`. Beside each stands that of 26,000 combinations
    of three random training digits, drawn by a fixed seed.

    Args:
        root: The folder that contains MNIST, of which training digits are stacked. None for the 5,000 training digits
            that come with gankit.
        sample_range: The range of the samples, such as (-1.0, 1.0).
        device: The device to compute on. None for that of the samples.

    Raises:
        BadValueError: If `sample_range` is not `(low, high)`.
        DeviceError: If torch does not know the device, or this machine does not have it.

    Example:
        >>> StackedMnistEvaluator().samples
        26000
    """

    channels = 3

    @property
    @override
    def samples(self) -> int:
        """The number of samples that it scores."""
        return _SAMPLES

    @property
    @override
    def metrics(self) -> Mapping[str, Better]:
        return _METRICS

    @override
    def _values(self, images: Tensor) -> Mapping[str, float]:
        return _by_name(stacked_mnist_modes(images))

    @override
    def _real_values(self, device: torch.device) -> Mapping[str, float]:
        return _floor(self.root, device)


@functools.cache
def _floor(root: str | None, device: torch.device) -> Mapping[str, float]:
    # digits are classified one by one, so those that are stacked several times are classified once
    labels = features_and_labels(training_digits(root, _REAL_DIGITS).to(device))[1].cpu()
    rows = torch.randint(len(labels), (_SAMPLES, 3), generator=torch.Generator().manual_seed(0))
    return _by_name(_modes_of(labels[rows]))


def _by_name(found: StackedMnistModes) -> dict[str, float]:
    return {"stacked_mnist_reverse_kl": found.reverse_kl, "stacked_mnist_modes": float(found.captured_modes)}
