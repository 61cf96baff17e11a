from __future__ import annotations

import pytest
import torch

from gankit import AUGMENTATIONS
from gankit.augmentations import HorizontalFlip, Translation
from gankit.errors import BadValueError, ShapeError

EVERY_AUGMENTATION = pytest.mark.parametrize("augmentation", AUGMENTATIONS.names())


@EVERY_AUGMENTATION
@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (5, 3, 8, 6), (2, 3, 1, 4, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_keeps_shape_and_type_and_makes_up_no_value(augmentation, shape, dtype):
    x = torch.randn(shape, dtype=dtype)
    before = x.clone()
    y = AUGMENTATIONS.build(augmentation)(x, generator=None)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert torch.isin(y, x).all()
    assert torch.equal(x, before)


@EVERY_AUGMENTATION
def test_it_passes_gradients(augmentation):
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    part = AUGMENTATIONS.build(augmentation)
    assert torch.autograd.gradcheck(lambda x: part(x, generator=torch.Generator().manual_seed(0)), x)


@EVERY_AUGMENTATION
@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 5, 5)], ids=str)
def test_it_refuses_what_is_not_pictures(augmentation, shape):
    with pytest.raises(ShapeError, match=rf"{augmentation} needs pictures \(N, C, H, W\), got samples of shape"):
        AUGMENTATIONS.build(augmentation)(torch.zeros(shape), generator=None)


@EVERY_AUGMENTATION
def test_it_draws_from_the_given_generator_alone(augmentation):
    before = torch.get_rng_state()
    part, x = AUGMENTATIONS.build(augmentation), torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one, same, other = (part(x, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_translation_moves_each_picture_by_up_to_its_fraction():
    # each pixel holds its own place, so the middle of the result tells the shift
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(16.0), indexing="ij")
    x = torch.stack([rows, columns]).expand(300, 2, 8, 16)
    y = Translation(0.25)(x, generator=torch.Generator().manual_seed(0))
    down, right = 4 - y[:, 0, 4, 8], 8 - y[:, 1, 4, 8]
    assert sorted(set(down.tolist())) == [-2, -1, 0, 1, 2]
    assert sorted(set(right.tolist())) == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
    for one, a, b in zip(y, down, right, strict=True):
        assert torch.equal(one[0], (rows - a).clamp(0, 7))
        assert torch.equal(one[1], (columns - b).clamp(0, 15))


@pytest.mark.parametrize(("size", "most"), [(4, 1), (28, 4), (32, 4), (64, 8)])
def test_translation_moves_by_an_eighth_by_default(size, most):
    x = torch.arange(float(size)).expand(400, 1, size, size)
    y = Translation()(x, generator=torch.Generator().manual_seed(0))
    shift = size // 2 - y[:, 0, 0, size // 2]
    assert (shift.min(), shift.max()) == (-most, most)


def test_horizontal_flip_mirrors_about_half():
    x = torch.arange(4.0).expand(400, 1, 2, 4)
    y = HorizontalFlip()(x, generator=torch.Generator().manual_seed(0))
    mirrored = (y == x.flip(-1)).flatten(1).all(1)
    assert torch.equal(mirrored, ~(y == x).flatten(1).all(1))
    assert 150 < mirrored.sum() < 250
    assert torch.equal(HorizontalFlip(0.0)(x, generator=None), x)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_fractions_outside_0_to_1_are_refused(value):
    with pytest.raises(BadValueError, match=r"fraction must be in \[0, 1\]"):
        Translation(value)
    with pytest.raises(BadValueError, match=r"probability must be in \[0, 1\]"):
        HorizontalFlip(value)
