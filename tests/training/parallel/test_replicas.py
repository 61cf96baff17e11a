"""A `Stacked` network computes what the networks that it consists of compute."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from gankit.architectures import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.training import Stacked
from tests.training.parallel.stacks import MLP, SHAPE, close
from tests.training.steps import CLASSES

NETWORKS = {
    "mlp generator": lambda: (MLPGenerator(3, SHAPE, **MLP), (3,)),
    "mlp discriminator": lambda: (MLPDiscriminator(SHAPE, **MLP), SHAPE),
    "mlp with minibatch_std": lambda: (MLPDiscriminator(SHAPE, minibatch_std=True, **MLP), SHAPE),
    "mlp with spectral_norm": lambda: (MLPDiscriminator(SHAPE, spectral_norm=True, **MLP), SHAPE),
    "dcgan generator": lambda: (DCGANGenerator(3, (1, 16, 16), hidden_dim=2, dtype=torch.float64), (3,)),
    "dcgan discriminator": lambda: (
        DCGANDiscriminator((1, 16, 16), hidden_dim=2, dtype=torch.float64),
        (1, 16, 16),
    ),
}
EVERY_NETWORK = pytest.mark.parametrize("name", NETWORKS)


def of(name, count=3):
    """Networks of one kind, and an input of each."""
    networks, shapes = zip(*[NETWORKS[name]() for _ in range(count)], strict=True)
    return list(networks), torch.randn(count, 4, *shapes[0], dtype=torch.float64)


def assert_equal_tensors(stacked, networks):
    state = stacked.state_dict()
    for index, network in enumerate(networks):
        assert list(network.state_dict()) == list(state)
        for name, value in network.state_dict().items():
            torch.testing.assert_close(state[name][index], value, rtol=1e-12, atol=1e-12, msg=name)


@EVERY_NETWORK
@pytest.mark.parametrize("training", [True, False])
def test_its_answers_gradients_and_buffers_are_those_of_its_networks(name, training):
    networks, x = of(name)
    stacked = Stacked(networks).train(training)
    for network in networks:
        network.train(training)
    inputs = x.clone().requires_grad_()
    for _ in range(2):
        answers = stacked(inputs)
        answers.square().sum().backward()
    for index, network in enumerate(networks):
        own = x[index].clone().requires_grad_()
        for _ in range(2):
            answer = network(own)
            answer.square().sum().backward()
        close(answers[index], answer)
        close(inputs.grad[index], own.grad)
        gradients = dict(stacked.named_parameters())
        for key, parameter in network.named_parameters():
            close(gradients[key].grad[index], parameter.grad)
    assert_equal_tensors(stacked, networks)


@EVERY_NETWORK
def test_its_names_are_those_of_one_network_and_its_tensors_have_one_dimension_more(name):
    networks, _ = of(name)
    stacked = Stacked(networks)
    assert [key for key, _ in stacked.named_parameters()] == [key for key, _ in networks[0].named_parameters()]
    assert [key for key, _ in stacked.named_buffers()] == [key for key, _ in networks[0].named_buffers()]
    assert_equal_tensors(stacked, networks)
    assert stacked.replicas == 3


@EVERY_NETWORK
def test_a_replica_is_an_ordinary_network_with_weights_of_its_own(name):
    networks, x = of(name)
    stacked = Stacked(networks).eval()
    one = stacked.replica(1)
    assert type(one) is type(networks[1])
    assert not one.training
    close(one(x[1]), networks[1].eval()(x[1]))
    with torch.no_grad():
        for tensor in (*one.parameters(), *one.buffers()):
            tensor.zero_()
    assert_equal_tensors(stacked, networks)
    one.load_state_dict(networks[2].state_dict())


def test_its_weights_are_copies():
    networks = [nn.Linear(3, 2) for _ in range(2)]
    stacked = Stacked(networks)
    with torch.no_grad():
        stacked.weight.zero_()
    assert all(network.weight.abs().min() > 0 for network in networks)
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in stacked.parameters())


def test_frozen_parameters_stay_frozen():
    networks = [nn.Linear(3, 2) for _ in range(2)]
    for network in networks:
        network.bias.requires_grad_(False)
    stacked = Stacked(networks)
    assert (stacked.weight.requires_grad, stacked.bias.requires_grad) == (True, False)
    assert not stacked.replica(0).bias.requires_grad


def test_a_state_goes_from_one_stack_to_another():
    (networks, x), (others, _) = of("dcgan generator"), of("dcgan generator")
    first, second = Stacked(networks), Stacked(others)
    first(x)
    second.load_state_dict(first.state_dict())
    close(second.eval()(x), first.eval()(x))


def test_a_copy_has_weights_and_a_mode_of_its_own():
    networks, x = of("dcgan generator")
    stacked = Stacked(networks).eval()
    before = stacked(x)
    twin = copy.deepcopy(stacked)
    assert not any(layer.training for layer in twin.modules())
    assert not copy.deepcopy(Stacked(networks).eval()).training
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.zero_()
    close(stacked(x), before)
    assert list(twin.state_dict()) == list(stacked.state_dict())


def test_it_moves_between_types_and_modes_as_any_module_does():
    networks, x = of("mlp generator")
    stacked = Stacked(networks).to(torch.float32)
    assert {tensor.dtype for tensor in (*stacked.parameters(), *stacked.buffers())} == {torch.float32, torch.int64}
    assert stacked(x.float()).dtype == torch.float32
    assert stacked.replica(0)(x[0].float()).dtype == torch.float32
    stacked.double().requires_grad_(False)
    assert not stacked(x).requires_grad
    modes = [layer.training for layer in stacked.eval().modules()]
    assert len(modes) > 5
    assert not any(modes)


def test_a_mode_reaches_a_network_that_reads_its_own():
    class Mode(nn.Linear):
        def forward(self, x):
            return super().forward(x) if self.training else super().forward(x) * 0

    stacked, x = Stacked([Mode(3, 2) for _ in range(2)]), torch.randn(2, 4, 3)
    assert stacked(x).abs().min() > 0
    stacked.eval()
    assert not stacked.replica(0).training
    assert stacked.replica(0)(x[0]).abs().max() == 0
    assert stacked(x).abs().max() == 0
    assert stacked.train()(x).abs().min() > 0


def test_conditions_are_one_a_replica():
    generators = [MLPGenerator(3, SHAPE, num_classes=CLASSES, **MLP) for _ in range(2)]
    discriminators = [DCGANDiscriminator(SHAPE, hidden_dim=2, num_classes=CLASSES) for _ in range(2)]
    labels = torch.randint(CLASSES, (2, 4))
    z, x = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(2, 4, *SHAPE)
    for networks, inputs in ((generators, z), (discriminators, x)):
        answers = Stacked(networks)(inputs, labels)
        for answer, network, one, own in zip(answers, networks, inputs, labels, strict=True):
            torch.testing.assert_close(answer, network(one, own))


@pytest.mark.parametrize("classes", [None, CLASSES])
def test_features_are_those_of_the_networks(classes):
    networks = [MLPDiscriminator(SHAPE, num_classes=classes, **MLP) for _ in range(2)]
    x = torch.randn(2, 4, *SHAPE, dtype=torch.float64)
    labels = None if classes is None else torch.randint(classes, (2, 4))
    features = Stacked(networks).features(x, labels)
    assert features.shape == (2, 4, 6)
    for index, network in enumerate(networks):
        close(features[index], network.features(x[index], None if labels is None else labels[index]))


def test_a_network_without_features_has_none_when_stacked():
    assert not hasattr(Stacked([nn.Linear(3, 2)]), "features")


def test_its_repr_shows_the_networks():
    assert repr(Stacked([nn.Linear(3, 2)] * 2)) == "Stacked(2 x Linear(in_features=3, out_features=2, bias=True))"


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x).tanh())

    networks, x = [Tied().double() for _ in range(2)], torch.randn(2, 4, 3, dtype=torch.float64)
    stacked = Stacked(networks)
    stacked(x).sum().backward()
    networks[1](x[1]).sum().backward()
    assert len(list(stacked.parameters())) == 1
    close(stacked.first.weight.grad[1], networks[1].first.weight.grad)


class Sharing(nn.Module):
    """A layer with two names, and two BatchNorms that share their running mean."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, dtype=torch.float64)
        self.second = self.first
        self.norm, self.other = (nn.BatchNorm1d(3, dtype=torch.float64) for _ in range(2))
        self.other.running_mean = self.norm.running_mean

    def forward(self, x):
        return self.other(self.second(self.norm(self.first(x)).tanh()))


def test_what_layers_share_stays_shared_in_every_call():
    networks = [Sharing(), Sharing()]
    stacked = Stacked(networks)
    assert stacked.first is stacked.second
    for _ in range(3):
        x = torch.randn(2, 4, 3, dtype=torch.float64)
        outputs = stacked(x)
        for index, network in enumerate(networks):
            close(outputs[index], network(x[index]))
    alone = stacked.replica(1)
    assert alone.first is alone.second
    assert alone.norm.running_mean is alone.other.running_mean
    for name, value in networks[1].state_dict().items():
        close(alone.state_dict()[name], value)


def test_a_replica_has_tied_weights_too():
    def tied():
        network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        network[1].weight = network[0].weight
        return network

    alone = Stacked([tied(), tied()]).replica(0)
    assert alone[0].weight is alone[1].weight


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.randn_like(x)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (lambda: Noisy(3, 3), r"draw no noise themselves, got Noisy \(vmap: called random operation while in"),
        (
            lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))),
            r"operations of torch\.vmap, .*\(Batching rule not implemented",
        ),
    ],
    ids=["noise", "torch's spectral norm"],
)
def test_what_torch_cannot_map_is_refused_in_one_sentence(network, says):
    stacked = Stacked([network(), network()])
    with pytest.raises(BadArgumentsError, match=says) as caught:
        stacked(torch.zeros(2, 4, 3))
    assert "\n" not in str(caught.value)


# --- what cannot be stacked ------------------------------------------------------------------------------


def uncopyable():
    network = nn.Linear(3, 2)
    network.lock = threading.Lock()
    return network


@pytest.mark.parametrize(
    ("networks", "error", "says"),
    [
        ([], BadValueError, "networks to stack must be one or more, got none"),
        ([nn.Linear(3, 2), nn.Linear(3, 4)], BadArgumentsError, "replicas must have one architecture and differ in"),
        ([nn.Linear(3, 2), nn.Bilinear(3, 3, 2)], BadArgumentsError, "got Linear and Bilinear"),
        ([nn.Linear(3, 2), nn.Linear(3, 2).double()], BadArgumentsError, "replicas must have one architecture"),
        (
            [nn.Sequential(nn.Linear(3, 2), nn.ReLU()), nn.Sequential(nn.Linear(3, 2), nn.Tanh())],
            BadArgumentsError,
            "replicas must have one architecture",
        ),
        (
            [nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(slope)) for slope in (0.1, 0.2)],
            BadArgumentsError,
            "replicas must have one architecture",
        ),
        (
            [nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))] * 2,
            BadArgumentsError,
            r"which Dropout \(1\) cannot: build the networks without it, or train them one by one",
        ),
        ([nn.Dropout2d()] * 2, BadArgumentsError, r"Dropout2d \(the network\) cannot"),
        ([nn.LazyLinear(2)] * 2, BadArgumentsError, "got a lazy layer; run one batch through each network first"),
        ([uncopyable()] * 2, BadArgumentsError, r"networks that copy\.deepcopy can copy \(cannot pickle '.*lock"),
    ],
    ids=["none", "sizes", "classes", "types", "activations", "slopes", "dropout", "dropout alone", "lazy", "no copy"],
)
def test_what_cannot_be_stacked_is_refused_in_one_sentence(networks, error, says):
    with pytest.raises(error, match=says):
        Stacked(networks)


@pytest.mark.parametrize("index", [-1, 2])
def test_a_replica_that_is_not_there_is_refused(index):
    with pytest.raises(BadValueError, match=f"replica must be from 0 to 1, got {index}"):
        Stacked([nn.Linear(3, 2)] * 2).replica(index)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 3), ()])
def test_inputs_that_are_not_one_a_replica_are_refused(shape):
    with pytest.raises(ShapeError, match=r"2 replicas need inputs of shape \(2, N, \.\.\.\), got"):
        Stacked([nn.Linear(3, 2)] * 2)(torch.zeros(shape))
