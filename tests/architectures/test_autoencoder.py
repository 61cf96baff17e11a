"""The logit of the autoencoder is its negative reconstruction error."""

from __future__ import annotations

import pytest
import torch

from gankit import AdversarialTrainer
from gankit.architectures import AutoencoderDiscriminator, MLPGenerator
from gankit.latents import Normal
from gankit.losses import EnergyBased, Hinge

SHAPE = (1, 28, 28)
SMALL = {"mlp": {"hidden_dim": 16}, "dcgan": {"hidden_dim": 8}}
OURS = pytest.mark.parametrize("name", ["mlp", "dcgan"])


def test_its_logit_is_minus_the_reconstruction_error():
    D = AutoencoderDiscriminator(SHAPE, widths=[16, 4])
    x = torch.rand(3, *SHAPE)
    reconstruction = D.network(x.flatten(1)).detach()
    expected = [-float(((r - s) ** 2).sum().sqrt()) for r, s in zip(reconstruction, x.flatten(1), strict=True)]
    torch.testing.assert_close(D(x), torch.tensor(expected))
    assert D.features(x).shape == (3, 4)


def test_a_perfect_reconstruction_has_energy_zero_and_a_finite_gradient():
    D = AutoencoderDiscriminator((3,), widths=[4])
    with torch.no_grad():
        for parameter in D.network.parameters():
            parameter.zero_()
    logits = D(torch.zeros(2, 3))
    assert logits.tolist() == [0.0, 0.0]
    logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in D.parameters())


def test_with_the_energy_based_loss_it_learns_to_reconstruct_the_data():
    G, D = MLPGenerator(4, (6,), widths=[8]), AutoencoderDiscriminator((6,), widths=[16, 3])
    trainer = AdversarialTrainer(
        G,
        D,
        EnergyBased(margin=1.0),
        latent=Normal(4),
        generator_optimizer=torch.optim.Adam(G.parameters(), 1e-3),
        discriminator_optimizer=torch.optim.Adam(D.parameters(), 1e-2),
    )
    data = torch.rand(32, 1) * torch.ones(32, 6)
    before = -D(data).mean()
    trainer.fit([data], steps=100)
    assert -D(data).mean() < before / 2


def test_the_generic_loss_takes_its_logits_too():
    D = AutoencoderDiscriminator((6,), widths=[4])
    x = torch.rand(5, 6)
    assert Hinge().discriminator_loss(D(x), D(x + 1)).shape == (5,)
