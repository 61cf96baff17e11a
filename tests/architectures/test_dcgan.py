"""The sizes of pictures that dcgan supports, its maps, and its first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit.architectures import DCGANDiscriminator, DCGANGenerator
from gankit.errors import ShapeError

LATENT_DIM = 6
SHAPE = (1, 28, 28)
ODD_BATCH = 3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_dcgan_makes_and_judges_pictures_of_powers_of_two(size, channels):
    shape = (channels, size, size)
    pictures = DCGANGenerator(LATENT_DIM, shape, hidden_dim=4)(torch.randn(ODD_BATCH, LATENT_DIM))
    assert pictures.shape == (ODD_BATCH, *shape)
    assert pictures.abs().max() <= 1
    assert DCGANDiscriminator(shape, hidden_dim=4)(pictures).shape == (ODD_BATCH,)


@pytest.mark.parametrize("size", [10, 12, 20, 24, 28, 40, 48, 56])
def test_dcgan_makes_and_judges_pictures_of_5_6_and_7_times_powers_of_two(size):
    shape = (1, size, size)
    pictures = DCGANGenerator(LATENT_DIM, shape, hidden_dim=2)(torch.randn(ODD_BATCH, LATENT_DIM))
    assert pictures.shape == (ODD_BATCH, *shape)
    assert DCGANDiscriminator(shape, hidden_dim=2)(pictures).shape == (ODD_BATCH,)


@pytest.mark.parametrize("role", ["generator", "discriminator"])
@pytest.mark.parametrize(
    "shape", [(784,), (28, 28), (1, 28, 32), (1, 30, 30), (1, 9, 9), (1, 7, 7), (1, 2, 2), (1, 1, 28, 28)]
)
def test_dcgan_refuses_other_pictures(role, shape):
    with pytest.raises(ShapeError) as refusal:
        DCGANGenerator(LATENT_DIM, shape) if role == "generator" else DCGANDiscriminator(shape)
    assert str(refusal.value).startswith("dcgan needs square pictures (C, S, S)")
    assert str(refusal.value).endswith(f"got {shape}")


def maps(network, x):
    """The output shapes of the layers of a sequence, without the batch."""
    shapes = []
    for layer in network:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    return shapes


def test_dcgans_maps_for_28_pixels_are_those_of_the_documentation():
    G, D = DCGANGenerator(100, SHAPE, output_activation="identity"), DCGANDiscriminator(SHAPE)
    assert maps(G.network, torch.randn(2, 100)) == [(100, 1, 1), (128, 7, 7), (64, 14, 14), (1, 28, 28)]
    assert maps(D.network, torch.rand(2, *SHAPE)) == [(64, 14, 14), (128, 7, 7), (1, 1, 1)]


def test_dcgans_channels_follow_hidden_dim():
    G = DCGANGenerator(5, (3, 32, 32), hidden_dim=2, output_activation="identity")
    D = DCGANDiscriminator((3, 32, 32), hidden_dim=2)
    assert maps(G.network, torch.randn(2, 5)) == [(5, 1, 1), (8, 4, 4), (4, 8, 8), (2, 16, 16), (3, 32, 32)]
    assert maps(D.network, torch.rand(2, 3, 32, 32)) == [(2, 16, 16), (4, 8, 8), (8, 4, 4), (1, 1, 1)]


@pytest.mark.parametrize("network", [DCGANGenerator(100, SHAPE), DCGANDiscriminator(SHAPE)], ids=["G", "D"])
def test_dcgan_starts_from_the_papers_weights(network):
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            assert layer.weight.mean().abs() < 0.003
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.4)


def test_the_papers_discriminator_has_no_norm_on_its_first_layer():
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in DCGANDiscriminator(SHAPE).network[0].modules())
