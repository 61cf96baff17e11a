"""The averaged network is one that the network could have been, whatever layers it has and whatever happens to them."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from gankit import AdversarialTrainer
from gankit.latents import Normal
from gankit.losses import NonSaturating
from gankit.training import Stacked, WeightAverage

SPECTRAL = {"hook": old_spectral_norm, "parametrization": parametrizations.spectral_norm}


def moved(network, average, updates, scale=0.1):
    """Move every trainable parameter at random and update the average, several times."""
    for _ in range(updates):
        network(torch.randn(8, 4))
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.add_(scale * torch.randn_like(parameter))
        average.update()


def make_trainer(G, **options):
    D = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (G, D)]
    return AdversarialTrainer(
        G, D, NonSaturating(), latent=Normal(4), generator_optimizer=optimizers[0],
        discriminator_optimizer=optimizers[1], averaging_decay=0.9, **options,
    )  # fmt: skip


# --- buffers and parametrizations ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECTRAL)
def test_the_vectors_of_the_power_method_stay_unit_vectors_and_the_norm_stays_one(kind):
    network = SPECTRAL[kind](nn.Linear(4, 4))
    average = WeightAverage(network, 0.99)
    moved(network, average, 50, scale=0.02)
    own, averaged = dict(network.named_buffers()), dict(average.network.named_buffers())
    assert own.keys() == averaged.keys()
    for name, buffer in own.items():
        assert torch.equal(averaged[name], buffer), name
    average.network(torch.zeros(1, 4))
    assert torch.linalg.matrix_norm(average.network.weight, 2) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    "make",
    [
        old_weight_norm,
        parametrizations.weight_norm,
        parametrizations.orthogonal,
        old_spectral_norm,
        parametrizations.spectral_norm,
        lambda layer: nn.Sequential(layer, nn.BatchNorm1d(4)),
        lambda layer: torch.jit.trace(layer, torch.randn(8, 4)),
        lambda layer: Stacked([nn.Sequential(layer, nn.BatchNorm1d(4))]),
    ],
    ids=["old weight_norm", "weight_norm", "orthogonal", "old spectral_norm", "spectral_norm", "batch norm", "traced",
         "stacked"],
)  # fmt: skip
def test_any_network_that_has_run_before_can_be_averaged(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old weight_norm
        network = make(nn.Linear(4, 4))
    x = torch.randn(1, 8, 4) if isinstance(network, Stacked) else torch.randn(8, 4)
    network(x)
    average = WeightAverage(network, 0.5)
    average.update()
    network(x)  # moves statistics and vectors
    average.update()
    assert average.network.state_dict().keys() == network.state_dict().keys()
    # the weights have not moved; only statistics and vectors of the power method have
    for own, averaged in zip(network.parameters(), average.network.parameters(), strict=True):
        torch.testing.assert_close(averaged, own.detach())
    torch.testing.assert_close(average.network(x).detach(), network.eval()(x).detach(), rtol=0.5, atol=0.5)


def test_weights_under_a_parametrization_keep_its_form():
    network = parametrizations.orthogonal(nn.Linear(4, 4, bias=False))
    average = WeightAverage(network, 0.9)
    moved(network, average, 5)
    weight = average.network.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), rtol=0, atol=1e-4)
    assert parametrize.is_parametrized(average.network)


class WithBuffers(nn.Module):
    """A layer with buffers of its own, and a number that its owner changes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.InstanceNorm1d(3, track_running_stats=True)
        self.register_buffer("angle", torch.zeros(()))
        self.alpha = 0.0
        self.blend = torch.zeros(())
        self.sizes = (4, 3)
        self.hidden = (nn.Linear(4, 3),)  # which torch does not see

    def forward(self, x):
        self.angle = self.angle + 1  # another tensor each time
        return self.linear(x) * (1 + self.alpha + self.blend)


def test_statistics_are_averaged_and_every_other_buffer_is_copied():
    network = WithBuffers()
    average = WeightAverage(network, 0.5, ramp=False)
    for value in (0.0, 1.0, 2.0):
        network(torch.randn(8, 4))
        network.norm.running_mean.fill_(value)
        average.update()
    assert average.network.angle == network.angle == 3
    assert average.network.norm.running_mean.tolist() == [1.25] * 3


def test_numbers_that_the_owner_changes_are_those_of_the_averaged_network():
    network = WithBuffers()
    average = WeightAverage(network, 0.5)
    average.update()
    network.alpha, network.blend, network.sizes = 0.25, torch.tensor(0.5), (1, 2)
    assert (average.network.alpha, average.network.blend, average.network.sizes) == (0.25, 0.5, (1, 2))
    assert average.network.hidden[0] is not network.hidden[0]
    assert average.network.blend is not network.blend
    assert not average.network.training


# --- types of numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_in_half_precision_are_averaged_in_float32(dtype):
    layer = nn.Linear(1, 1, bias=False, dtype=dtype)
    average = WeightAverage(layer, 0.999, ramp=False)
    nn.init.zeros_(layer.weight)
    average.update()
    nn.init.ones_(layer.weight)
    for _ in range(3000):
        average.update()
    assert average.network.weight.dtype == dtype
    assert average.network.weight.item() == pytest.approx(1 - 0.999**3000, abs=0.005)


def test_an_average_in_half_precision_continues_exactly_from_its_state():
    layer = nn.Linear(2, 2, dtype=torch.bfloat16)
    average = WeightAverage(layer, 0.999)
    for _ in range(5):
        nn.init.normal_(layer.weight)
        average.update()
    other = WeightAverage(copy.deepcopy(layer), 0.999)
    other.load_state_dict(copy.deepcopy(average.state_dict()))
    for one in (average, other):
        for _ in range(5):
            one.update()
    assert all(torch.equal(a, b) for a, b in zip(average.tensors(), other.tensors(), strict=True))


# --- changes between two calls of fit --------------------------------------------------------------------


def test_frozen_parameters_equal_those_of_the_network_exactly():
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[0].requires_grad_(False)
    average = WeightAverage(network, 0.9)
    moved(network, average, 5)
    network[1].requires_grad_(False)
    nn.init.ones_(network[0].weight)  # such as weights that were loaded
    average.update()
    for (name, own), averaged in zip(network.named_parameters(), average.network.parameters(), strict=True):
        assert torch.equal(own, averaged), name
    network[1].requires_grad_(True)
    moved(network, average, 5)
    assert torch.equal(network[0].weight, average.network[0].weight)
    assert not torch.equal(network[1].weight, average.network[1].weight)


def replace_a_layer(network):
    network[0] = nn.Linear(4, 4)


def replace_an_activation(network):
    network[1] = nn.Tanh()


def insert_a_layer(network):
    network.insert(1, nn.Linear(4, 4))


def assign_a_parameter(network):
    network[0].weight = nn.Parameter(torch.ones(4, 4))


def tie_two_layers(network):
    network[2].weight = network[0].weight


def parametrize_a_layer(network):
    parametrizations.spectral_norm(network[0])


CHANGES = [
    replace_a_layer,
    replace_an_activation,
    insert_a_layer,
    assign_a_parameter,
    tie_two_layers,
    parametrize_a_layer,
]


@pytest.mark.parametrize("change", CHANGES, ids=[one.__name__ for one in CHANGES])
def test_changes_of_the_network_are_followed(change):
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 3))
    average = WeightAverage(network, 0.9)
    moved(network, average, 5)
    kept = average.network[-1].weight.clone()
    change(network)
    assert average.prepare(network)
    assert not average.prepare(network)
    assert torch.equal(average.network[-1].weight, kept)  # the average of what has not changed goes on
    for (name, own), (_, averaged) in zip(network.named_modules(), average.network.named_modules(), strict=True):
        assert type(own) is type(averaged), name
    assert average.network.state_dict().keys() == network.state_dict().keys()
    if change is tie_two_layers:
        assert average.network[0].weight is average.network[2].weight
    if change is assign_a_parameter:
        assert torch.equal(average.network[0].weight, network[0].weight)
    moved(network, average, 200, scale=0.0)
    x = torch.randn(5, 4)
    torch.testing.assert_close(average.network(x), network.eval()(x).detach())


def test_a_generator_that_is_assigned_is_averaged_from_then_on():
    trainer = make_trainer(nn.Linear(4, 3), execution="eager")
    trainer.step(torch.randn(8, 3))
    trainer.generator = nn.Sequential(nn.Linear(4, 3))
    trainer.generator_optimizer = torch.optim.SGD(trainer.generator.parameters(), lr=0.1)
    trainer.step(torch.randn(8, 3))
    assert trainer.averaged_generator.state_dict().keys() == trainer.generator.state_dict().keys()
    assert trainer.sample(2).shape == (2, 3)


# --- running statistics of the average -------------------------------------------------------------------


def test_statistics_can_be_estimated_from_the_averaged_weights():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    average = WeightAverage(network, 0.9)
    moved(network, average, 5)
    batches, state = torch.randn(4, 16, 4), torch.get_rng_state()
    average.estimate_statistics((one,) for one in batches)
    assert torch.equal(torch.get_rng_state(), state)  # dropout draws nothing
    activations = average.network[0](batches)
    norm = average.network[1]
    torch.testing.assert_close(norm.running_mean, activations.mean((0, 1)))
    torch.testing.assert_close(norm.running_var, activations.var(1).mean(0))
    assert (norm.momentum, norm.training) == (0.1, False)
