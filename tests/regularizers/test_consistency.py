"""Consistency penalties and the augmentations they take."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from gankit import REGULARIZERS, Spec, StepContext
from gankit.errors import BadArgumentsError, BadValueError, ShapeError, UnknownNameError
from gankit.regularizers import AUGMENTATIONS, BalancedConsistency, Consistency, HorizontalFlip, Translation
from tests.regularizers.networks import SHAPE, LinearCritic

BOTH = pytest.mark.parametrize("name", ["consistency", "balanced_consistency"])
EVERY_AUGMENTATION = pytest.mark.parametrize("augmentation", AUGMENTATIONS.names())


class MeanCritic(nn.Module):
    """The logit is the mean of the picture's top row: mirroring leaves it alone."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((), 3.0, dtype=torch.float64))

    def forward(self, x):
        return self.scale * x[..., 0, :].flatten(1).mean(1)


def context_for(critic, real, fake=None, seed=0):
    return StepContext(discriminator=critic, real=real, fake=fake, random=torch.Generator().manual_seed(seed))


# --- the penalties -------------------------------------------------------------------------------------------


@BOTH
def test_a_critic_that_does_not_see_the_augmentation_pays_nothing(name):
    real, fake = torch.randn(2, 9, 3, 4, 4, dtype=torch.float64)
    critic = MeanCritic()
    values = REGULARIZERS.build(name, augment="horizontal_flip")(context_for(critic, real, fake))
    torch.testing.assert_close(values, torch.zeros(9, dtype=torch.float64))
    values = REGULARIZERS.build(name)(context_for(critic, real, fake))  # translation it does see
    assert values.max() > 1e-3


def test_its_value_is_the_squared_change_of_the_logit():
    real, fake = torch.randn(2, 9, *SHAPE, dtype=torch.float64)
    critic = LinearCritic(SHAPE, 2.0)

    def roll(x, *, generator):
        return x.roll(1, -1)

    on_real = critic(real) - critic(real.roll(1, -1))
    on_fake = critic(fake) - critic(fake.roll(1, -1))
    torch.testing.assert_close(Consistency(weight=3.0, augment=roll)(context_for(critic, real)), 3 * on_real**2)
    torch.testing.assert_close(
        BalancedConsistency(real_weight=3.0, fake_weight=5.0, augment=roll)(context_for(critic, real, fake)),
        3 * on_real**2 + 5 * on_fake**2,
    )


@BOTH
def test_the_gradient_goes_through_both_logits(name):
    real, fake = torch.randn(2, 4, *SHAPE, dtype=torch.float64)
    critic = MeanCritic()
    REGULARIZERS.build(name, augment=lambda x, *, generator: 2 * x)(context_for(critic, real, fake)).sum().backward()
    m = real[..., 0, :].flatten(1).mean(1)
    square = (m**2).sum()
    if name == "balanced_consistency":
        square = square + (fake[..., 0, :].flatten(1).mean(1) ** 2).sum()
    torch.testing.assert_close(critic.scale.grad, 10 * 2 * 3 * square)  # d/ds of 10 (s m)^2


@BOTH
@EVERY_AUGMENTATION
def test_the_seed_decides_the_augmentation(name, augmentation):
    real, fake = torch.randn(2, 9, *SHAPE, dtype=torch.float64)
    critic, penalty = LinearCritic(SHAPE, 1.0), REGULARIZERS.build(name, augment=augmentation)
    one, same, other = (penalty(context_for(critic, real, fake, seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@BOTH
@pytest.mark.parametrize(
    "augment",
    ["translation", Spec("translation", fraction=0.25), Translation(0.25), Translation, lambda x, *, generator: -x],
    ids=["name", "spec", "object", "class", "function"],
)
def test_an_augmentation_may_be_a_name_a_spec_or_a_callable(name, augment):
    penalty = REGULARIZERS.build(name, augment=augment)
    values = penalty(context_for(LinearCritic(SHAPE, 1.0), *torch.randn(2, 3, *SHAPE, dtype=torch.float64)))
    assert values.shape == (3,)
    assert penalty == REGULARIZERS.build(name, augment=augment)


@BOTH
def test_a_recipe_can_name_the_augmentation(name):
    spec = Spec(name, augment=Spec("translation", fraction=0.25), every=2)
    again = Spec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert REGULARIZERS.build(again) == REGULARIZERS.build(spec)
    assert REGULARIZERS.build(Spec.parse(f"{name}:augment=horizontal_flip")).augment == "horizontal_flip"


@BOTH
def test_an_unknown_augmentation_is_refused_with_the_nearest(name):
    with pytest.raises(UnknownNameError, match="unknown augmentation 'translate'. Did you mean 'translation'?"):
        REGULARIZERS.build(name, augment="translate")


@BOTH
def test_what_cannot_be_called_is_refused(name):
    with pytest.raises(BadArgumentsError, match=r"augment must be a name, a Spec or a function .*, got 3"):
        REGULARIZERS.build(name, augment=3)


def test_balanced_consistency_refuses_unequal_batches():
    context = context_for(LinearCritic(SHAPE, 1.0), *(torch.zeros(n, *SHAPE, dtype=torch.float64) for n in (4, 1)))
    with pytest.raises(ShapeError, match=r"got \(4,\) and \(1,\)"):
        BalancedConsistency()(context)


# --- the augmentations -----------------------------------------------------------------------------------------


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
def test_translation_moves_by_an_eighth_unless_told_otherwise(size, most):
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
