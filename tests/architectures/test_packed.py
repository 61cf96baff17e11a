"""A packed discriminator judges several samples together."""

from __future__ import annotations

import pytest
import torch

from gankit import Answer, Spec
from gankit.architectures import PackedDiscriminator
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.presets import vanilla_mnist
from gankit.testing import check_discriminator

SHAPE = (1, 28, 28)
SMALL = {"mlp": {"hidden_dim": 16}, "dcgan": {"hidden_dim": 8}}
OURS = pytest.mark.parametrize("name", ["mlp", "dcgan"])


@pytest.mark.parametrize("inner", ["mlp", "dcgan", Spec("mlp", widths=[8])])
@pytest.mark.parametrize("packing", [1, 2, 4])
def test_a_packed_discriminator_judges_joined_samples(inner, packing):
    D = PackedDiscriminator(SHAPE, packing=packing, discriminator=inner).eval()
    x = torch.rand(8, *SHAPE)
    logits = D(x)
    packs = torch.stack([torch.cat(list(x[i : i + packing])) for i in range(0, 8, packing)])
    expected = D.discriminator(packs)
    assert expected.shape == (8 // packing,)
    for i in range(8):
        assert logits[i] == expected[i // packing]
    assert D.features(x).shape[0] == 8
    assert D.network is D.discriminator.network


def test_packs_of_points_are_joined_too():
    D = PackedDiscriminator((2,), packing=3, discriminator=Spec("mlp", widths=[4]))
    assert D.discriminator.sample_shape == (6,)
    assert D(torch.randn(6, 2)).shape == (6,)


@pytest.mark.parametrize("packing", [2, 3, 4])
def test_a_packed_discriminator_trains(packing):
    preset = vanilla_mnist.replace(batch_size=12)
    trainer = preset(discriminator=Spec("packed", packing=packing), device="cpu")
    trainer.fit(preset.batches(device="cpu"), steps=2)
    assert all(value.isfinite() for value in trainer.metrics.values())


def test_what_a_packed_discriminator_cannot_judge_is_refused():
    D = PackedDiscriminator(SHAPE, packing=4)
    with pytest.raises(ShapeError, match="a multiple of packing=4, got 6"):
        D(torch.rand(6, *SHAPE))
    with pytest.raises(ShapeError, match=r"samples of shape \(N, 1, 28, 28\), got \(8, 1, 14, 14\)"):
        D(torch.rand(8, 1, 14, 14))
    with pytest.raises(BadArgumentsError, match="takes no condition, because the samples of a pack"):
        D(torch.rand(8, *SHAPE), torch.zeros(8, dtype=torch.long))
    with pytest.raises(BadValueError, match="packing must be above 0, got 0"):
        PackedDiscriminator(SHAPE, packing=0)


class Heads(torch.nn.Module):
    """Judges packs of two points with two heads, and returns features."""

    def __init__(self, sample_shape):
        super().__init__()
        self.layer = torch.nn.Linear(*sample_shape, 5)

    def forward(self, x):
        out = self.layer(x)
        return Answer(heads=(out[:, 0], out[:, 1:].unflatten(1, (2, 2))), features=[out])


def test_every_judgement_and_feature_of_a_pack_is_that_of_its_samples():
    D, x = PackedDiscriminator((2,), discriminator=Heads), torch.randn(6, 2)
    of_packs, of_samples = D.discriminator(x.view(3, 4)), D(x)
    for pack, sample in zip(
        (*of_packs.heads, *of_packs.features), (*of_samples.heads, *of_samples.features), strict=True
    ):
        assert sample.shape == (6, *pack.shape[1:])
        for i in range(6):
            assert torch.equal(sample[i], pack[i // 2])
    check_discriminator(D, sample_shape=(2,))
