"""The classifier that comes with gankit: its file, its accuracy, and what it refuses."""

from __future__ import annotations

import importlib.resources
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from gankit.data import mnist, mnist_test_2k
from gankit.errors import BadArgumentsError, DataError, DeviceError, GankitError, ShapeError
from gankit.metrics import mnist_classifier
from gankit.metrics.mnist import classifier

FOLDER = Path(classifier.__file__).parent
DESCRIPTION = json.loads((FOLDER / "weights.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def network():
    return mnist_classifier("cpu")


@pytest.fixture
def folder_of_weights(tmp_path, monkeypatch):
    """A copy of the files that are read."""
    for name in ("weights.safetensors", "weights.json"):
        shutil.copy(FOLDER / name, tmp_path)
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    return tmp_path


def test_the_file_is_small():
    assert (FOLDER / "weights.safetensors").stat().st_size <= 500_000


def test_the_classifier_is_ready_for_use(network):
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    images = torch.rand(3, 1, 28, 28)
    assert torch.equal(network(images), network.head(network.features(images)))
    assert network.features(images).shape == (3, classifier.FEATURES)
    assert network(images.half()).dtype == torch.float32
    assert network(images[:0]).shape == (0, 10)


def test_it_knows_test_digits(network):
    digits = mnist_test_2k()
    labels = classifier.features_and_labels(digits.samples / 255)[1]
    assert (labels == digits.labels).float().mean() >= 0.993


@pytest.mark.mnist
@pytest.mark.skipif(
    "GANKIT_TEST_DATA" not in os.environ, reason="GANKIT_TEST_DATA names no folder that holds MNIST/raw"
)
def test_it_knows_as_many_test_digits_as_its_description_says(network):
    digits = mnist(os.environ["GANKIT_TEST_DATA"], train=False, download=False)
    labels = classifier.features_and_labels(digits.samples / 255)[1]
    found = torch.bincount(digits.labels * 10 + labels, minlength=100).reshape(10, 10)
    assert found.trace() >= 9_930
    assert found.trace() / 10_000 == pytest.approx(DESCRIPTION["test_accuracy"])
    # rounding on other machines may change a digit that two classes share
    assert (found - torch.tensor(DESCRIPTION["test_confusion"])).abs().sum() <= 4


def test_changed_weights_are_refused(folder_of_weights):
    mnist_classifier("cpu")
    file = folder_of_weights / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"digest {DESCRIPTION['sha256']}, got .*; install gankit again"):
        mnist_classifier("cpu")


IMAGES = torch.zeros(2, 1, 28, 28)


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (IMAGES[:, 0], ShapeError, r"images must be \(N, 1, 28, 28\), got \(2, 28, 28\)"),
        (torch.zeros(2, 1, 32, 32), ShapeError, r"got \(2, 1, 32, 32\)"),
        (torch.zeros(2, 3, 28, 28), ShapeError, r"got \(2, 3, 28, 28\)"),
        (IMAGES.byte(), BadArgumentsError, r"floating-point numbers in \[0, 1\], got torch.uint8"),
        (IMAGES - 1, DataError, r"images must be in \[0, 1\], got values from -1 to -1"),
        (IMAGES + 255, DataError, "from 255 to 255"),
        (IMAGES * torch.nan, DataError, "from nan to nan"),
        (IMAGES + torch.inf, DataError, "from inf to inf"),
    ],
    ids=["no-channel", "size", "channels", "bytes", "negative", "large", "nan", "inf"],
)
def test_what_it_refuses(network, images, error, words):
    for call in (network, network.features):
        with pytest.raises(error, match=words) as refusal:
            call(images)
        assert isinstance(refusal.value, GankitError)


def test_rounding_errors_are_let_through(network):
    network(IMAGES - 1e-5)
    network(IMAGES + 1 + 1e-5)


def test_an_unknown_device_is_refused():
    with pytest.raises(DeviceError, match="'gpu'"):
        mnist_classifier("gpu")


def test_gradients_reach_the_images(network):
    images = IMAGES.clone().requires_grad_(True)
    network.features(images).sum().backward()
    assert images.grad is not None
