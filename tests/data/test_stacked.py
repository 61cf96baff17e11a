"""Stacked digits are three independent digits, in the range of the model."""

from __future__ import annotations

import math

import pytest
import torch

from gankit import Spec
from gankit.data import DATASETS, SampledBatches, Sampler, TensorData, mnist_5k, stacked
from gankit.data.stacked import StackedDigits
from gankit.errors import BadArgumentsError, BadValueError, DataNotFoundError, ShapeError
from gankit.presets import stacked_mnist

TEN = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)  # a digit is a pixel of its own value


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_its_thousand_classes_are_equally_frequent():
    digits = (StackedDigits(TEN, (0.0, 255.0)).sample(100_000, generator=seeded()).flatten(1)).round().long()
    counts = (digits * torch.tensor([100, 10, 1])).sum(1).bincount(minlength=1000)
    # the sum of 1,000 squares of nearly normal variables has the mean 999 and the variance 2 * 999
    assert abs(float((counts - 100).square().sum() / 100) - 999) < 5 * math.sqrt(2 * 999)


@pytest.mark.parametrize("sample_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_each_channel_is_one_of_the_digits_in_the_range(sample_range):
    data = DATASETS.build(Spec("stacked_mnist", sample_range=sample_range))
    assert isinstance(data, Sampler)
    samples = data.sample(4, generator=seeded())
    assert samples.shape == (4, 3, 28, 28)
    assert samples.dtype == torch.float32
    assert (samples.min(), samples.max()) == sample_range
    low, high = sample_range
    known = {row.numpy().tobytes() for row in mnist_5k().samples}
    pixels = ((samples - low) / (high - low) * 255).round().to(torch.uint8)
    assert all(one.numpy().tobytes() in known for one in pixels.flatten(0, 1))


def test_root_stacks_the_training_digits_of_that_folder(monkeypatch):
    asked = []
    monkeypatch.setattr(stacked, "mnist", lambda root, download: asked.append((root, download)) or TensorData(TEN))
    assert DATASETS.build("stacked_mnist", root="data").sample_shape == (3, 1, 1)
    assert asked == [("data", True)]
    monkeypatch.undo()
    with pytest.raises(DataNotFoundError, match=r"^MNIST was not found in 'nowhere': "):
        DATASETS.build("stacked_mnist", root="nowhere", download=False)


def test_each_replica_draws_what_its_seed_draws_alone():
    data = StackedDigits(TEN, (0.0, 1.0))
    both = next(iter(SampledBatches(data, batch_size=5, seed=3, replicas=2)))
    for index in range(2):
        assert torch.equal(both[index], next(iter(SampledBatches(data, batch_size=5, seed=3 + index))))


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: StackedDigits(TEN[:0]), ShapeError, r"^digits must be \(N, 1, H, W\) with N above 0"),
        (lambda: StackedDigits(TEN[0]), ShapeError, r"got \(1, 1, 1\)$"),
        (
            lambda: StackedDigits(TEN, (1.0, 0.0)),
            BadValueError,
            r"^sample_range must be two finite numbers, the lowest",
        ),
        (lambda: StackedDigits(TEN, (0.0, math.nan)), BadValueError, "^sample_range must be two finite numbers"),
        (lambda: DATASETS.build("stacked_mnist", sample_range=1.0), BadArgumentsError, "'sample_range' must be"),
    ],
)
def test_what_cannot_be_is_refused(build, error, says):
    with pytest.raises(error, match=says):
        build()


def test_the_discriminator_of_its_preset_judges_each_sample_by_itself():
    D = stacked_mnist(device="cpu").discriminator.train()
    x = StackedDigits(mnist_5k().samples).sample(4, generator=seeded())
    torch.testing.assert_close(D(x)[:2], D(x[:2]))
