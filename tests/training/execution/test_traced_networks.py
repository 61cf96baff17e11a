"""Tracing a half leaves the attributes of the networks as they were, and follows the modes of their layers."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from tests.training.observing import same, weights
from tests.training.steps import SHAPE, make, make_batches


class Aliased(nn.Module):
    """One layer under two names, and a list that grows."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first
        self.last = nn.Linear(3, 16)
        self.kept = []

    def forward(self, z):
        self.newest = self.second(self.first(z))
        self.kept.append(self.newest)
        return self.last(self.newest).unflatten(1, SHAPE)


def normalised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's older function
        return nn.Sequential(nn.utils.spectral_norm(nn.Linear(3, 16)), nn.Unflatten(1, SHAPE))


def networks_with(make_generator):
    def networks(classes, dtype):
        return make_generator(), nn.Sequential(nn.Flatten(), nn.Linear(16, 1), nn.Flatten(0))

    return networks


@pytest.mark.parametrize("make_generator", [Aliased, normalised])
def test_tracing_leaves_no_fake_tensor_in_a_network(traced_only, make_generator):
    data, networks = make_batches(), networks_with(make_generator)
    eager = make("eager", networks=networks).fit(data, steps=3)
    compiled = make("compile", networks=networks).fit(data, steps=3)
    assert compiled.explain().mode == "compile"
    for layer in compiled.generator.modules():
        held = [*vars(layer).values(), *vars(layer).get("kept", [])]
        assert not any(isinstance(one, FakeTensor) for one in held)
    torch.testing.assert_close(weights(compiled.generator), weights(eager.generator), rtol=1e-4, atol=1e-5)
    assert compiled.generator(torch.zeros(2, 3)).shape == (2, *SHAPE)


@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_the_mode_of_a_layer_may_change_between_two_steps(traced_only, execution):
    def trained(execution):
        trainer, data = make(execution), make_batches()
        trainer.fit(data, steps=2)
        trainer.generator.network[0][1].eval()
        trainer.fit(data, steps=4)
        trainer.generator.eval()
        return trainer.fit(data, steps=6)

    one, other = trained("eager"), trained(execution)
    assert other.generator.network[0][1].num_batches_tracked == 8  # of two passes in each of four steps
    if execution == "eager":
        assert same(weights(one.generator), weights(other.generator))
    else:
        torch.testing.assert_close(weights(one.generator), weights(other.generator), rtol=1e-4, atol=1e-5)
