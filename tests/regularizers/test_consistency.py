"""Consistency penalties."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from gankit import AUGMENTATIONS, REGULARIZERS, Spec, StepContext
from gankit.augmentations import Translation
from gankit.errors import BadArgumentsError, ShapeError, UnknownNameError
from gankit.regularizers import BalancedConsistency, Consistency
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
