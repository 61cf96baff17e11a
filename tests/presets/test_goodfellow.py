"""The preset is the published configuration: https://github.com/goodfeli/adversarial, mnist.yaml."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gankit.blocks import Maxout
from gankit.errors import BadArgumentsError
from gankit.optimizers import ScheduledSGD
from gankit.presets import goodfellow_2014_mnist


@pytest.fixture(scope="module")
def trainer():
    return goodfellow_2014_mnist(device="cpu")


def test_its_generator_has_1200_rectified_units_twice_and_784_sigmoids(trainer):
    G = trainer.generator
    kinds = [type(layer) for layer in G.network.modules() if not isinstance(layer, nn.Sequential)]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear, nn.Sigmoid]
    assert sum(p.numel() for p in G.parameters()) == 100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 784 + 784
    assert all(0.049 < p.abs().max() < 0.05 for name, p in G.named_parameters() if name.endswith("weight"))
    z = trainer.latent(1000, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    assert z.shape == (1000, 100)
    assert 1.73 < z.max() < math.sqrt(3)
    assert float(z.var()) == pytest.approx(1, abs=0.01)


def test_its_discriminator_has_240_maxout_units_of_5_pieces_twice(trainer):
    D = trainer.discriminator
    assert [
        (one.linear.in_features, one.linear.out_features, one.pieces) for one in D.network if type(one) is Maxout
    ] == [
        (784, 1200, 5),
        (240, 1200, 5),
    ]
    assert [one.p for one in D.network if isinstance(one, nn.Dropout)] == [0.2, 0.5, 0.5]
    assert all(p.abs().max() < 0.005 for name, p in D.named_parameters() if name.endswith("weight"))


def test_its_rates_after_250_epochs_are_the_papers(trainer):
    for optimizer, rate in ((trainer.generator_optimizer, 0.1), (trainer.discriminator_optimizer, 0.05)):
        assert isinstance(optimizer, ScheduledSGD)
        parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        last = ScheduledSGD([parameter], **{k: v for k, v in optimizer.defaults.items() if k != "params"})
        last.state[parameter] = {
            "step": torch.tensor(124_999.0, dtype=torch.float64),
            "velocity": torch.ones(1, dtype=torch.float64),
        }
        parameter.grad = torch.ones(1, dtype=torch.float64)
        last.step()
        # the momentum is 0.7 in the 250th epoch
        assert float(parameter.detach()) == pytest.approx(0.7 - rate / 1.000004**124_999, rel=1e-12)


def test_replicas_are_refused_because_of_dropout():
    with pytest.raises(BadArgumentsError, match="Dropout"):
        goodfellow_2014_mnist(device="cpu", replicas=2)


def test_both_gradients_are_those_before_either_update(trainer):
    assert trainer.options.simultaneous_updates
