"""Parts of the tests of pictures: writing them, and looking at samples of one colour."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from PIL import Image

from gankit.errors import DataWarning


def save(path, colour, *, size=(28, 28), mode=None, **options):
    """Write a picture of one colour."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = mode or ("L" if isinstance(colour, int) else "RGB")
    Image.new(mode, size, colour).save(path, **options)


def colours(data):
    """The colour of each sample, one value per channel."""
    assert torch.equal(data.samples, data.samples[:, :, :1, :1].expand_as(data.samples))
    return data.samples[:, :, 0, 0].tolist()


def notices(call):
    """What `call` returns, and the texts of the warnings about data."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    assert all(issubclass(one.category, DataWarning) for one in caught), [str(one.message) for one in caught]
    return result, [str(one.message) for one in caught]
