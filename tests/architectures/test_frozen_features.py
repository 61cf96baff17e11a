"""Heads on frozen features, against a loop by hand."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from gankit import Adversary, Answer
from gankit.architectures import FrozenFeaturesDiscriminator
from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.regularizers import LayerMatching
from gankit.testing import check_discriminator

SHAPE = (3, 16, 20)


class Network(nn.Module):
    """Features of each kind that networks return: maps, tokens and vectors."""

    def __init__(self, returned="list"):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 5, 3, stride=2)
        self.returned = returned
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        first = self.norm(self.first(x)).tanh()
        second = self.second(first).tanh()
        named = {"first": first, "tokens": second.flatten(2).transpose(1, 2), "vector": second.mean((2, 3))}
        match self.returned:
            case "mapping":
                return named
            case "tensor":
                return first
            case "tuple":
                return tuple(named.values())
        return list(named.values())


def build(network=None, **options):
    return FrozenFeaturesDiscriminator(SHAPE, network=network or Network(), **{"hidden_dim": 6} | options)


def samples(count=3, **options):
    return torch.rand(count, *SHAPE, **options)


def by_hand(D, x, mean=0.0, std=1.0):
    """Each head in a loop, with its weights divided by their largest singular value."""
    heads = []
    for index, features in enumerate(D.network((x - mean) / std)):
        state = {key.removeprefix(f"{index}."): one for key, one in D.heads.state_dict().items()}
        out = features.transpose(1, 2) if features.ndim == 3 else features
        apply = {2: F.linear, 3: F.conv1d, 4: F.conv2d}[features.ndim]
        for layer in ("0", "2"):
            weight = state[f"{layer}.parametrizations.weight.original"]
            u, v = (state[f"{layer}.parametrizations.weight.0.{name}"] for name in ("_u", "_v"))
            weight = weight / (u @ weight.flatten(1) @ v)
            options = {} if features.ndim == 2 else {"padding": weight.shape[-1] // 2}
            out = apply(out, weight, state[f"{layer}.bias"], **options)
            out = F.leaky_relu(out, 0.2) if layer == "0" else out
        heads.append(out)
    return heads


def test_heads_equal_a_loop_by_hand():
    D = build(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)).double().eval()
    x = samples(dtype=torch.float64)
    mean, std = (torch.tensor(one).double().view(3, 1, 1) for one in ((0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))
    answer = D(x)
    torch.testing.assert_close(list(answer.heads), by_hand(D, x, mean, std), rtol=1e-6, atol=1e-9)
    assert [tuple(head.shape) for head in answer.heads] == [(3, 1, 7, 9), (3, 1, 12), (3, 1)]
    torch.testing.assert_close(answer.features, D.network((x - mean) / std), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("returned", ["tensor", "tuple", "mapping", "list"])
def test_it_takes_what_networks_return(returned):
    D = build(Network(returned))
    assert len(D(samples()).heads) == (1 if returned == "tensor" else 3)
    layers = {"tensor": [0], "mapping": ["vector", "first"]}.get(returned, [2, 0])
    chosen = build(Network(returned), layers=layers)(samples())
    assert len(chosen.heads) == len(layers)
    if returned != "tensor":
        assert chosen.features[0].ndim == 2


def test_torchvisions_networks_are_taken_by_their_extractors():
    network = torchvision.models.mobilenet_v3_small(weights=None)
    extractor = create_feature_extractor(network, {"features.0": "fine", "features.2": "coarse"})
    D = FrozenFeaturesDiscriminator((3, 40, 40), network=extractor, hidden_dim=4, size=(64, 64))
    assert [tuple(head.shape) for head in D(torch.rand(2, 3, 40, 40)).heads] == [(2, 1, 32, 32), (2, 1, 8, 8)]


def test_the_frozen_part_is_neither_saved_nor_trained_and_stays_in_eval_mode():
    network = Network()
    D = build(network)
    own = {id(one) for one in (*network.parameters(), *network.buffers())}
    assert not own & {id(one) for one in (*D.parameters(), *D.buffers())}
    assert {key.partition(".")[0] for key in D.state_dict()} == {"heads"}
    assert not any(parameter.requires_grad for parameter in network.parameters())
    before = {key: one.clone() for key, one in network.state_dict().items()}
    D.train()
    assert D.heads.training
    assert not network.training
    assert not network.norm.training
    optimizer = torch.optim.SGD(D.parameters(), 0.1)
    sum(head.sum() for head in D(samples()).heads).backward()
    optimizer.step()
    assert all(torch.equal(one, before[key]) for key, one in network.state_dict().items())


def test_gradients_reach_the_picture_and_differentiate_twice():
    D = build().double()
    x = samples(dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(sum(head.sum() for head in D(x).heads), x, create_graph=True)
    assert slope.any()
    slope.square().sum().backward()
    assert all(parameter.grad is not None for key, parameter in D.named_parameters() if key.endswith("original"))


def test_the_frozen_part_moves_with_the_module():
    D = build()
    D.to(torch.float64)
    assert {one.dtype for one in D.network.parameters()} == {torch.float64}
    assert D(samples(dtype=torch.float64)).heads[0].dtype == torch.float64
    D.to("meta")
    assert {one.device.type for one in (*D.parameters(), *D.network.parameters())} == {"meta"}
    assert build(dtype=torch.float64)(samples(dtype=torch.float64)).heads[0].dtype == torch.float64


@pytest.mark.parametrize("way", [copy.deepcopy, lambda D: pickle.loads(pickle.dumps(D))])
def test_a_copy_is_its_own(way):
    D = build(mean=(0.5,), std=(0.5,)).eval()
    other = way(D)
    x = samples()
    torch.testing.assert_close(other(x).heads, D(x).heads)
    assert other.network is not D.network


def test_the_features_cost_no_second_pass():
    network = Network()
    D = build(network)
    network.calls = 0
    adversary = Adversary(D, regularizers=[LayerMatching()], discriminator_start=0, generator_start=0)
    fake = samples().requires_grad_()
    adversary.generator_loss(real=samples(), fake=fake, step=0).backward()
    assert network.calls == 2  # on the real samples and on the fakes
    assert fake.grad.any()
    assert build(features=False)(samples()).features is None


def test_labels_are_appended_to_the_features_of_each_head():
    D = build(num_classes=4).eval()
    x = samples(1)
    answers = [D(x, torch.tensor([label])).heads for label in range(4)]
    for one in answers[1:]:
        assert all(not torch.equal(head, first) for head, first in zip(one, answers[0], strict=True))


def test_it_follows_the_rules():
    check_discriminator(build(), sample_shape=SHAPE)


def test_it_compiles():
    D = build().eval()
    x = samples()
    for one, other in zip(torch.compile(D, backend="eager")(x).heads, D(x).heads, strict=True):
        torch.testing.assert_close(one, other)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value(x) if callable(self.value) else self.value


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"network": Returns(None)}, BadArgumentsError, "network must return features: .*, got NoneType"),
        ({"network": Returns([1])}, BadArgumentsError, "network must return features: .*, got int"),
        ({"network": Returns(lambda x: x.sum())}, ShapeError, r"network must return features .*, got \(\) for \(2, 3"),
        ({"layers": ["last"]}, BadArgumentsError, "layers must name features .*, 0, 1, 2, got 'last'"),
        ({"kernel_size": 2}, BadValueError, "kernel_size must be odd, .*, got 2"),
        ({"hidden_dim": 0}, BadValueError, "hidden_dim must be above 0, got 0"),
        ({"mean": (0.5, 0.5)}, BadValueError, "mean must be one number for each of the 3 channels, got 2"),
        ({"std": (0.0,)}, BadValueError, r"std must be finite numbers above 0, got \(0.0,\)"),
    ],
)
def test_an_impossible_argument_is_refused(options, error, sentence):
    with pytest.raises(error, match=f"^{sentence}"):
        build(**options)


def test_other_samples_and_networks_are_refused():
    with pytest.raises(ShapeError, match=r"^frozen_features needs pictures \(C, H, W\), got sample_shape=\(3,\)"):
        FrozenFeaturesDiscriminator((3,), network=Network())
    with pytest.raises(BadArgumentsError, match=r"^network must be a torch.nn.Module, got function"):
        FrozenFeaturesDiscriminator(SHAPE, network=lambda x: x)
    with pytest.raises(ShapeError, match=r"needs samples of shape \(N, 3, H, W\), got \(2, 1, 16, 20\)"):
        build()(torch.rand(2, 1, 16, 20))
    assert isinstance(build()(samples()), Answer)
