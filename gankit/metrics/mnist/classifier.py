"""`mnist_classifier`: a small network that tells digits apart, and whose features show noise and blur as well."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources

import torch
from safetensors.torch import load as load_tensors  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn
from typing_extensions import override

from gankit.devices import resolve_device
from gankit.errors import BadArgumentsError, DataError, ShapeError
from gankit.files import parse_json
from gankit.metrics.features import extract_features

FEATURES = 64
"""The number of features of a digit."""

_SLACK = 1e-4  # for rounding errors of half precision


class MnistClassifier(nn.Module):
    """A convolutional network of 107,000 parameters, from digits to the logits of their classes.

    `mnist_classifier` returns one with trained weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body: nn.Sequential = nn.Sequential(
            _convolution(1, 16),
            _convolution(16, 32, stride=2),
            _convolution(32, 32),
            _convolution(32, 64, stride=2),
            _convolution(64, 64),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 3 * 3, FEATURES),
            nn.ReLU(),
        )
        self.head: nn.Linear = nn.Linear(FEATURES, 10)

    def features(self, images: Tensor) -> Tensor:
        """Return the last hidden layer of each digit, `(N, 64)`.

        Args:
            images: Digits, `(N, 1, 28, 28)` in [0, 1].

        Raises:
            BadArgumentsError: If they are not of a floating-point type.
            ShapeError: If they have another shape.
            DataError: If a value is outside [0, 1] or not finite.
        """
        check_images(images)
        return self.body(images.to(self.head.weight.dtype))

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten classes, `(N, 10)`. Arguments and errors are those of `features`."""
        return self.head(self.features(images))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def mnist_classifier(device: torch.device | str | None = None) -> MnistClassifier:
    """Return a trained classifier of MNIST's digits, in eval mode. Its weights come with gankit.

    It was trained on MNIST's 60,000 training digits, shifted by up to two pixels. Half of them were noisy or blurred,
    and the features had to show the strength of both. So the classes of such digits are known, and precision falls with
    noise and blur, while a slight blur raised it in the features of a mere classifier.
    `weights.json` beside the weights has the command, the recipe, the accuracy and the confusion matrix.

    Args:
        device: The device. None chooses CUDA if it is available, and the CPU otherwise.

    Raises:
        DeviceError: If torch does not know the device, or this machine does not have it.
        DataError: If the file of weights has changed.

    Example:
        >>> from gankit.data import mnist_test_2k
        >>> digits = mnist_test_2k()
        >>> classify = mnist_classifier("cpu")
        >>> images = digits.samples[:5] / 255
        >>> classify(images).argmax(1).tolist() == digits.labels[:5].tolist(), classify.features(images).shape
        (True, torch.Size([5, 64]))
        >>> classify(2 * images - 1)
        Traceback (most recent call last):
        gankit.errors.DataError: images must be in [0, 1], got values from -1 to 1
    """
    folder = importlib.resources.files("gankit.metrics.mnist")
    weights = (folder / "weights.safetensors").read_bytes()
    expected = parse_json((folder / "weights.json").read_bytes())["sha256"]
    if (found := hashlib.sha256(weights).hexdigest()) != expected:
        raise DataError(
            f"gankit's weights.safetensors must have the SHA-256 digest {expected}, got {found}; install gankit again"
        )
    network = MnistClassifier()
    network.load_state_dict(load_tensors(weights))
    return network.to(resolve_device(device)).eval().requires_grad_(False)


@functools.cache
def classifier_on(device: torch.device) -> MnistClassifier:
    """Return the classifier of this process on a device, which nobody may change."""
    return mnist_classifier(device)


def features_and_labels(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features `(N, 64)` and the predicted labels `(N,)` of digits, computed in batches on their device.

    Args:
        images: Digits, `(N, 1, 28, 28)` in [0, 1].

    Example:
        >>> features, labels = features_and_labels(torch.zeros(3, 1, 28, 28))
        >>> features.shape, labels.shape
        (torch.Size([3, 64]), torch.Size([3]))
    """
    network = classifier_on(images.device)
    with torch.no_grad():
        features = extract_features(network.features, images)
        return features, network.head(features).argmax(1)


def check_images(
    images: Tensor, *, channels: int = 1, sample_range: tuple[float, float] = (0.0, 1.0), name: str = "images"
) -> None:
    """Raise unless a tensor has pictures of digits, `(N, channels, 28, 28)`, with values in a range.

    Args:
        images: The pictures.
        channels: The number of digits in a picture, one per channel.
        sample_range: The lowest and the highest value.
        name: The name of the argument, for the message.

    Example:
        >>> check_images(torch.zeros(2, 1, 32, 32))
        Traceback (most recent call last):
        gankit.errors.ShapeError: images must be (N, 1, 28, 28), got (2, 1, 32, 32)
    """
    if images.ndim != 4 or images.shape[1:] != (channels, 28, 28):
        raise ShapeError(f"{name} must be (N, {channels}, 28, 28), got {tuple(images.shape)}")
    low, high = sample_range
    if not images.is_floating_point():
        raise BadArgumentsError(f"{name} must be floating-point numbers in [{low:g}, {high:g}], got {images.dtype}")
    if not len(images):
        return
    slack = _SLACK * (high - low)
    lowest, highest = (float(one) for one in torch.aminmax(images.detach()))  # NaN if any value is
    if not (lowest >= low - slack and highest <= high + slack):
        raise DataError(f"{name} must be in [{low:g}, {high:g}], got values from {lowest:g} to {highest:g}")
