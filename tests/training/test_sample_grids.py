"""Grids of samples are black and white where the model's range ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from gankit.presets import dcgan_mnist, vanilla_mnist
from gankit.training import SampleGrids


class Constant(torch.nn.Module):
    """A generator whose pictures consist of one value."""

    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, z):
        return self.value.expand(len(z), 1, 28, 28)


@pytest.mark.parametrize(
    ("preset", "value", "sample_range", "grey"),
    [
        (vanilla_mnist, 0.5, None, 128),
        (dcgan_mnist, 0.0, None, 128),  # the middle of [-1, 1]
        (dcgan_mnist, -1.0, None, 0),
        (dcgan_mnist, 0.0, (0.0, 1.0), 0),
        (vanilla_mnist.replace(sample_range=None), -0.5, None, 64),  # standardised: what `save_grid` chooses
    ],
)
def test_a_grid_of_samples_has_the_range_of_the_trainer(tmp_path, preset, value, sample_range, grey):
    trainer = preset(generator=Constant(value), device="cpu")
    grids = SampleGrids(tmp_path, count=1, sample_range=sample_range)
    grids(trainer)
    middle = np.asarray(Image.open(grids.written[0]))[30, 30]
    assert all(abs(int(one) - grey) < 2 for one in middle)
