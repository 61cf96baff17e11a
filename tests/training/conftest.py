"""Small networks and a trainer of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gankit import AdversarialTrainer
from gankit.latents import Normal
from gankit.losses import NonSaturating
from tests.training.steps import SHAPE


def small_generator() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 16), nn.Unflatten(1, SHAPE))


def small_discriminator() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Flatten(0))


@pytest.fixture
def traced_only(monkeypatch):
    """Run the traced graph without Inductor, which takes many seconds per half."""
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)


@pytest.fixture
def make_trainer():
    def make(generator=None, discriminator=None, loss=None, *, optimizer=torch.optim.Adam, **options):
        torch.manual_seed(0)
        G = generator or small_generator()
        D = discriminator or small_discriminator()
        defaults = {
            "latent": Normal(3),
            "generator_optimizer": optimizer(G.parameters(), lr=1e-2),
            "discriminator_optimizer": optimizer(D.parameters(), lr=1e-2),
        }
        return AdversarialTrainer(G, D, loss or NonSaturating(), **(defaults | options))

    return make


@pytest.fixture
def batches():
    random = torch.Generator().manual_seed(1)
    return [torch.randn(6, *SHAPE, generator=random) for _ in range(4)]
