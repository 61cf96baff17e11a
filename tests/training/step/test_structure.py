"""The structure of networks, which is numbered as it changes."""

from __future__ import annotations

import copy

import pytest
from torch import nn

from gankit.training.step.structure import Structure


def network():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.ReLU()))


def replace(parent, name, value):
    return lambda one: setattr(one.get_submodule(parent), name, value)


CHANGES = {
    "a layer": replace("", "0", nn.Linear(2, 2)),
    "a layer without tensors": replace("2", "0", nn.Tanh()),
    "a layer more": replace("2", "1", nn.Tanh()),
    "no layer": replace("2", "0", None),
    "a parameter": replace("0", "weight", nn.Parameter(nn.Linear(2, 2).weight.detach())),
    "no parameter": replace("0", "bias", None),
    "a buffer": replace("1", "running_mean", nn.BatchNorm1d(2).running_mean),
    "a frozen parameter": lambda one: one[0].weight.requires_grad_(False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_has_another_number_until_it_is_taken_back(change):
    networks, structure = [network(), network()], Structure()
    assert structure.number(networks) == structure.number(networks) == structure.newest == 0
    layers = [(layer, dict(vars(layer))) for layer in networks[1].modules()]
    dictionaries = {name: [dict(own[name]) for _, own in layers] for name in ("_parameters", "_buffers", "_modules")}
    CHANGES[change](networks[1])
    assert structure.number(networks) == structure.number(networks) == structure.newest == 1
    for name, contents in dictionaries.items():
        for (layer, _), content in zip(layers, contents, strict=True):
            vars(layer)[name].clear()
            vars(layer)[name].update(content)
    networks[1].requires_grad_(True)
    assert structure.number(networks) == structure.newest == 0


def test_another_network_has_another_number():
    networks, structure = [network(), network()], Structure()
    structure.number(networks)
    assert structure.number([networks[0], network()]) == 1
    assert structure.number(networks) == 0


def test_a_copy_begins_anew():
    structure = Structure()
    structure.number([network()])
    structure.number([network()])
    assert copy.deepcopy(structure).newest == 0
