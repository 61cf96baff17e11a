"""`check_block`, `check_generator`, `check_discriminator`: wrong networks are caught, right ones pass."""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from gankit import BLOCKS, DISCRIMINATORS, GENERATORS, Spec
from gankit.errors import BadArgumentsError, ConformanceError
from gankit.testing import RULES, check_block, check_discriminator, check_generator
from tests.testing.catching import assert_caught, wrong_parts
from tests.testing.wrong_networks import (
    WRONG_BLOCKS,
    WRONG_DISCRIMINATORS,
    WRONG_GENERATORS,
    BareDictionary,
    BareTuple,
    Column,
    Conditional,
    ConditionalLogits,
    Heads,
    HeadWithoutABatch,
    Layers,
    Logits,
    Patches,
)

CHECK_G = functools.partial(check_generator, latent_dim=4, sample_shape=(2,))
CHECK_D = functools.partial(check_discriminator, sample_shape=(2,))


@wrong_parts(WRONG_BLOCKS)
def test_a_wrong_block_is_caught_by_the_rule_it_breaks(part, rule):
    assert_caught(check_block, part, rule, in_features=6, out_features=4)


@wrong_parts(WRONG_GENERATORS, names=("part", "num_classes", "rule"))
def test_a_wrong_generator_is_caught_by_the_rule_it_breaks(part, num_classes, rule):
    assert_caught(CHECK_G, part, rule, num_classes=num_classes)


@wrong_parts(WRONG_DISCRIMINATORS, names=("part", "num_classes", "rule"))
def test_a_wrong_discriminator_is_caught_by_the_rule_it_breaks(part, num_classes, rule):
    assert_caught(CHECK_D, part, rule, num_classes=num_classes)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("block", WRONG_BLOCKS), ("generator", WRONG_GENERATORS), ("discriminator", WRONG_DISCRIMINATORS)],
)
def test_every_rule_has_a_wrong_network(kind, wrong):
    assert {rule for *_, rule in wrong} == RULES[kind].keys()


def test_the_networks_without_their_mistakes_pass():
    check_block(Layers)
    CHECK_G(Layers(4, 2))
    CHECK_G(Conditional(4, 2), num_classes=3)
    CHECK_D(Logits(2, 1))
    CHECK_D(ConditionalLogits(2, 1), num_classes=3)
    for kind, width in ((Column, 1), (Patches, 6), (Heads, 6)):
        CHECK_D(kind(2, width))


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (Layers(2, 3), r"got \(5, 3\); return Answer\(heads=\(logits,\)\) if each number is a judgement of its own"),
        (BareTuple(2, 6), r"or an Answer\(heads=\(tensor, ...\)\) of several, got tuple"),
        (BareDictionary(2, 6), r"or an Answer\(heads=\(tensor, ...\)\) of several, got dict"),
        (HeadWithoutABatch(2, 6), r"head 1 of the discriminator's Answer must have the shape \(5, \*positions\)"),
    ],
)
def test_what_is_no_judgement_is_named_as_in_a_training(part, sentence):
    with pytest.raises(ConformanceError, match=rf"'shape': in train mode 5 samples get no judgements: .*{sentence}"):
        CHECK_D(part)


class Projection(nn.Module):
    """A projection discriminator with spectral norm and the minibatch standard deviation."""

    def __init__(self):
        super().__init__()
        self.first = spectral_norm(nn.Linear(2, 16))
        self.norm = nn.GroupNorm(4, 16)
        self.last = weight_norm(nn.Linear(17, 1))
        self.embedding = nn.Embedding(3, 17)

    def forward(self, x, labels):
        hidden = F.leaky_relu(self.norm(self.first(x)), 0.2)
        spread = hidden.std(0, correction=0).mean().expand(len(x), 1)
        hidden = torch.cat([hidden, spread], 1)
        return self.last(hidden).squeeze(1) + (hidden * self.embedding(labels)).sum(1)


class Pictures(nn.Module):
    """A generator with dropout, InstanceNorm, a fixed filter and a gain that starts at zero."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8 * 16)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.dropout = nn.Dropout(0.5)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(()))
        self.last = nn.Conv2d(8, 3, 1)
        self.register_buffer("blur", torch.full((3, 1, 3, 3), 1 / 9), persistent=False)

    def forward(self, z):
        x = self.dropout(self.norm(self.first(z).view(-1, 8, 4, 4)))
        x = F.interpolate(x + self.gain * self.branch(x), scale_factor=2)
        return torch.tanh(F.conv2d(self.last(x), self.blur, padding=1, groups=3))


def test_an_unusual_discriminator_passes():
    CHECK_D(Projection(), num_classes=3)


def test_an_unusual_generator_passes():
    check_generator(Pictures(), latent_dim=4, sample_shape=(3, 8, 8))


@pytest.mark.parametrize("name", BLOCKS.names())
def test_gankit_blocks_pass(name):
    block = functools.partial(BLOCKS.build, name)
    flat = not any("Conv" in type(layer).__name__ for layer in BLOCKS.build(name, 6, 4).modules())
    check_block(block, example=None if flat else torch.zeros(1, 6, 8, 8))


def unconditional_and_conditional(registry):
    """Yield every name without classes, and with three classes if the network takes `num_classes`."""
    for name in registry.names():
        yield name, None
        if "num_classes" in inspect.signature(registry.get(name)).parameters:
            yield name, 3


@pytest.mark.parametrize(("name", "num_classes"), list(unconditional_and_conditional(GENERATORS)))
def test_gankit_generators_pass(name, num_classes):
    shapes = {"latent_dim": 8, "sample_shape": (3, 16, 16)}
    given = {} if num_classes is None else {"num_classes": num_classes}
    check_generator(GENERATORS.build(name, **shapes, **given), **shapes, num_classes=num_classes)


# others in their own sizes; `frozen_features` needs a network: tests/architectures/test_frozen_features.py
SIZES = {
    "patch": {"depth": 2},  # 24 pixels by default
    "multi_scale": {"scales": 2, "discriminator": Spec("patch", depth=1)},
    "vgg": {"depth": 2, "hidden_dim": 4},
    "unet": {"hidden_dim": 4},
    "blur_patch": {"hidden_dim": 8, "groups": 2},
    "multi_period": {"hidden_dim": 1},
    "multi_scale_waveform": {"hidden_dim": 16, "scales": 2},
    "multi_resolution_stft": {"hidden_dim": 2, "n_ffts": (16, 8)},
}
WAVEFORMS = ("multi_period", "multi_scale_waveform", "multi_resolution_stft")


@pytest.mark.parametrize(
    ("name", "num_classes"),
    [one for one in unconditional_and_conditional(DISCRIMINATORS) if one[0] != "frozen_features"],
)
def test_gankit_discriminators_pass(name, num_classes):
    torch.manual_seed(0)  # with few positions, all judgements of an untrained network may have one sign
    shape = (1, 64) if name in WAVEFORMS else (3, 16, 16)
    given = ({} if num_classes is None else {"num_classes": num_classes}) | SIZES.get(name, {})
    discriminator = DISCRIMINATORS.build(name, sample_shape=shape, **given)
    check_discriminator(discriminator, sample_shape=shape, num_classes=num_classes)


# --- a condition that is no label ------------------------------------------------------------------------


class Pairs(nn.Module):
    """Judges a picture together with another one, joined by channel, or in a way that a rule forbids."""

    def __init__(self, wrong=None):
        super().__init__()
        self.conv = nn.Conv2d(5, 1, 3)
        self.wrong = wrong

    def forward(self, x, condition=None):
        if condition is None and self.wrong == "default":
            condition = x.new_zeros(len(x), 2, *x.shape[2:])
        if self.wrong == "ignored":
            condition = torch.zeros_like(condition)
        if self.wrong == "rolled":
            condition = condition.roll(1, 0)
        if self.wrong == "in place":
            condition.mul_(2)
        return self.conv(torch.cat([x, condition], 1))


CHECK_PAIRS = functools.partial(check_discriminator, sample_shape=(3, 6, 5), condition_shape=(2, 6, 5))


def test_a_discriminator_of_pairs_passes():
    CHECK_PAIRS(Pairs())


@pytest.mark.parametrize(
    ("wrong", "rule", "words"),
    [
        ("default", "condition", "called without a condition, it raises no error"),
        ("ignored", "condition", "another condition gives the same output"),
        ("rolled", "batch-order", "samples in reverse order get other judgements"),
        ("in place", "input-unchanged", "it changes the condition in place"),
    ],
)
def test_a_wrong_discriminator_of_pairs_is_caught(wrong, rule, words):
    with pytest.raises(ConformanceError, match=words) as caught:
        CHECK_PAIRS(Pairs(wrong))
    assert caught.value.rule == rule


def test_a_condition_of_another_shape_is_in_the_message():
    with pytest.raises(ConformanceError, match="on an input of shape .*, with a condition, in train mode, raised"):
        check_discriminator(Pairs(), sample_shape=(3, 6, 5), condition_shape=(2, 4, 4))


def test_labels_and_another_condition_at_once_are_refused():
    with pytest.raises(BadArgumentsError, match=r"takes num_classes for labels or condition_shape .*, got both"):
        CHECK_PAIRS(Pairs(), num_classes=3)
