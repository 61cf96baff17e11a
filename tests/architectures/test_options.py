"""Spectral normalisation, minibatch standard deviation, packing, and the autoencoder."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gankit import DISCRIMINATORS, AdversarialTrainer, Spec
from gankit.architectures import AutoencoderDiscriminator, MLPDiscriminator, MLPGenerator, PackedDiscriminator
from gankit.architectures.layers import MinibatchStandardDeviation, normalise_spectrally
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.latents import Normal
from gankit.losses import EnergyBased, Hinge
from gankit.presets import vanilla_mnist
from gankit.training import Stacked

SHAPE = (1, 28, 28)
SMALL = {"mlp": {"hidden_dim": 16}, "dcgan": {"hidden_dim": 8}}
OURS = pytest.mark.parametrize("name", ["mlp", "dcgan"])


# --- spectral normalisation ------------------------------------------------------------------------------


@OURS
def test_spectral_norm_bounds_every_weight_by_one(name):
    D = DISCRIMINATORS.build(name, sample_shape=SHAPE, spectral_norm=True, **SMALL[name])
    for _ in range(100):  # the power method converges over forward passes
        D(torch.rand(4, *SHAPE))
    D.eval()
    layers = [layer for layer in D.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    assert len(layers) >= 3
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.05)


def test_a_spectrally_normalised_mlp_is_1_lipschitz():
    D = MLPDiscriminator((5,), widths=[16, 16], spectral_norm=True)
    for _ in range(200):
        D(torch.randn(4, 5))
    D.eval()
    x, y = torch.randn(2, 500, 5)
    assert ((D(x) - D(y)).abs() <= (x - y).norm(dim=1) * 1.01).all()


@OURS
def test_without_it_nothing_is_normalised(name):
    keys = DISCRIMINATORS.build(name, sample_shape=SHAPE, **SMALL[name]).state_dict()
    assert not any("parametrizations" in key for key in keys)


def test_the_weights_that_are_trained_are_those_before_the_division():
    layer = nn.Sequential(nn.Linear(3, 2))
    weight = layer[0].weight.detach().clone()
    normalise_spectrally(layer)
    torch.testing.assert_close(layer[0].parametrizations.weight.original, weight)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [(nn.Linear(5, 3), torch.randn(4, 5)), (nn.Conv2d(2, 3, 3), torch.randn(4, 2, 6, 6))],
    ids=["linear", "convolution"],
)
def test_spectral_norm_is_torchs_to_the_last_bit(layer, inputs):
    ours, theirs = nn.Sequential(copy.deepcopy(layer)), nn.Sequential(copy.deepcopy(layer))
    torch.manual_seed(3)
    normalise_spectrally(ours)
    torch.manual_seed(3)
    nn.utils.parametrizations.spectral_norm(theirs[0])
    for _ in range(3):
        outputs = [network(inputs) for network in (ours, theirs)]
        assert torch.equal(*outputs)
        gradients = [
            torch.autograd.grad(output.square().sum(), list(network.parameters()))
            for output, network in zip(outputs, (ours, theirs), strict=True)
        ]
        assert all(map(torch.equal, *gradients))
    for network in (ours.eval(), theirs.eval()):
        network(inputs)  # in eval mode the vectors stay
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_spectral_norm_works_in_replicas():
    networks = [MLPDiscriminator((6,), widths=[5, 4], spectral_norm=True, dtype=torch.float64) for _ in range(3)]
    stacked = Stacked(networks)
    x = torch.randn(3, 7, 6, dtype=torch.float64)
    for _ in range(3):
        alone = torch.stack([network(one) for network, one in zip(networks, x, strict=True)])
        torch.testing.assert_close(stacked(x), alone, rtol=1e-12, atol=1e-12)
    for name, value in stacked.state_dict().items():
        torch.testing.assert_close(value, torch.stack([network.state_dict()[name] for network in networks]))


# --- minibatch standard deviation ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 4)])
@pytest.mark.parametrize("group_size", [None, 2, 3])
def test_minibatch_std_is_the_mean_deviation_of_the_group(shape, group_size):
    x = torch.randn(shape, dtype=torch.float64)
    out = MinibatchStandardDeviation(group_size)(x)
    assert out.shape == (6, 4, *shape[2:])
    assert torch.equal(out[:, :3], x)
    for first in range(0, 6, group_size or 6):
        group = x[first : first + (group_size or 6)]
        expected = group.std(0, correction=0).mean()
        added = out[first : first + (group_size or 6), 3]
        torch.testing.assert_close(added, expected.expand_as(added), rtol=1e-6, atol=1e-6)


def test_minibatch_std_of_equal_samples_has_a_finite_gradient():
    x = torch.ones(4, 3, requires_grad=True)
    MinibatchStandardDeviation()(x).sum().backward()
    assert x.grad.isfinite().all()


def test_minibatch_std_refuses_a_batch_that_is_no_whole_number_of_groups():
    with pytest.raises(ShapeError, match="groups of 4 needs a batch size that is a multiple of 4, got 6"):
        MinibatchStandardDeviation(4)(torch.zeros(6, 3))


@OURS
def test_with_minibatch_std_the_answer_depends_on_the_batch(name):
    x = torch.rand(4, *SHAPE)
    plain, seeing = (
        DISCRIMINATORS.build(name, sample_shape=SHAPE, minibatch_std=option, **SMALL[name]).eval()
        for option in (False, True)
    )
    torch.testing.assert_close(plain(x)[:2], plain(x[:2]))
    assert not torch.allclose(seeing(x)[:2], seeing(x[:2]), rtol=1e-4, atol=1e-6)


# --- packing ---------------------------------------------------------------------------------------------


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


# --- the autoencoder -------------------------------------------------------------------------------------


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
