"""What the evaluators of digits share: the checks of samples, real digits, and scores with their noise floor."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gankit.data.digits import mnist, mnist_5k, mnist_test_2k
from gankit.data.scaling import scaled
from gankit.devices import resolve_device
from gankit.errors import BadValueError, ShapeError, check_finite
from gankit.metrics.mnist.classifier import check_images
from gankit.metrics.scores import Better, Score

_SEED = 0


class DigitsEvaluator(ABC):
    """Scores generated pictures of digits, and real ones in their place.

    Args:
        root: The folder that contains MNIST, or None for the digits that come with gankit.
        sample_range: The range of the samples.
        device: The device to compute on. None for that of the samples.
    """

    channels: ClassVar[int]
    """The number of digits in a picture, one per channel."""

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        sample_range: tuple[float, float] = (0.0, 1.0),
        device: torch.device | str | None = None,
    ) -> None:
        for number in sample_range:
            check_finite("sample_range", number)
        if sample_range[0] >= sample_range[1]:
            raise BadValueError(f"sample_range must be (low, high) with low below high, got {sample_range}")
        self.root: str | None = None if root is None else str(root)
        self.sample_range = sample_range
        self.device: torch.device | None = None if device is None else resolve_device(device)

    @property
    @abstractmethod
    def samples(self) -> int:
        """The number of samples that it scores."""

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Better]:
        """The names of the metrics, the most telling one first, and whether higher or lower is better."""

    def __call__(self, samples: Tensor) -> dict[str, Score]:
        """Return the scores by the names of their metrics, the most telling one first.

        If a sample is NaN or infinite, every value is NaN. The scores of real digits are computed in the first call of
        the process on each device.

        Args:
            samples: The generated samples, `(self.samples, channels, 28, 28)` in `sample_range`.

        Raises:
            ShapeError: If there are more or fewer samples, or they have another shape.
            BadArgumentsError: If they are not of a floating-point type.
            DataError: If a finite value is outside `sample_range`.
        """
        expected = (self.samples, self.channels, 28, 28)
        if samples.shape != expected:
            raise ShapeError(f"samples must be {expected}, got {tuple(samples.shape)}")
        device = self.device or samples.device
        values: Mapping[str, float] = {}
        if torch.isfinite(samples).all():
            check_images(samples, channels=self.channels, sample_range=self.sample_range, name="samples")
            low, high = self.sample_range
            images = (samples.detach().to(device).float() - low) / (high - low)
            values = self._values(images.clamp(0, 1))
        real = self._real_values(device)
        return {
            name: Score(values.get(name, math.nan), real[name], better, self.samples)
            for name, better in self.metrics.items()
        }

    @abstractmethod
    def _values(self, images: Tensor) -> Mapping[str, float]:
        """Return the value of each metric for pictures in [0, 1] on their device."""

    @abstractmethod
    def _real_values(self, device: torch.device) -> Mapping[str, float]:
        """Return the value of each metric for real training digits in the place of samples."""


def training_digits(root: str | None, count: int) -> Tensor:
    """Return random training digits by a fixed seed, `(count, 1, 28, 28)` in [0, 1]. MNIST is ordered by writer.

    Args:
        root: The folder that contains MNIST, or None for `mnist_5k`.
        count: The number of digits.

    Example:
        >>> training_digits(None, 3).shape
        torch.Size([3, 1, 28, 28])
    """
    samples = mnist_5k().samples if root is None else mnist(root, download=False).samples
    rows = torch.randperm(len(samples), generator=torch.Generator().manual_seed(_SEED))[:count]
    return scaled(samples[rows], (0.0, 1.0))


def held_out_digits(root: str | None) -> Tensor:
    """Return the test digits, `(2000, 1, 28, 28)`, or `(10000, 1, 28, 28)` for full MNIST, in [0, 1].

    Args:
        root: The folder that contains MNIST, or None for the 2,000 test digits that come with gankit.

    Example:
        >>> held_out_digits(None).shape
        torch.Size([2000, 1, 28, 28])
    """
    data = mnist_test_2k() if root is None else mnist(root, train=False, download=False)
    return scaled(data.samples, (0.0, 1.0))
