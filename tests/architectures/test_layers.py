"""Spectral normalisation and minibatch standard deviation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gankit import DISCRIMINATORS
from gankit.architectures import MLPDiscriminator
from gankit.architectures.layers import MinibatchStandardDeviation, normalise_spectrally
from gankit.errors import ShapeError
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
