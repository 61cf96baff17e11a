"""`Adversary` with networks that `torch.compile` has compiled."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
import torch._functorch.config as functorch_config
from torch import nn

from gankit.adversary import Adversary
from gankit.regularizers import R1

pytestmark = pytest.mark.slow
BACKENDS = pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor", marks=pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
        ),
    ],
)


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    with functorch_config.patch(donated_buffer=False):  # for two gradients through one graph
        yield


def weights_after_training(compiled, backend):
    """Train with a penalty in every second step, and with the gradient at the last layer as well as the backward."""
    G = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1))
    D = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.Tanh(), nn.Conv2d(4, 1, 2))
    last = G[2].weight
    parameters = [*G.parameters(), *D.parameters()]
    called_G, called_D = (torch.compile(one, backend=backend) for one in (G, D)) if compiled else (G, D)
    adversary = Adversary(called_D, regularizers=[R1(weight=1.0, every=2)])
    of_G, of_D = torch.optim.SGD(G.parameters(), 0.1), torch.optim.SGD(D.parameters(), 0.1)
    for step in range(4):
        x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        y = called_G(x)
        reconstruction = (y - x).square().mean()
        term = adversary.generator_loss(fake=y, real=x, step=step)
        norms = [torch.autograd.grad(one, last, retain_graph=True)[0].norm() for one in (reconstruction, term)]
        of_G.zero_grad()
        (reconstruction + norms[0] / norms[1] * term).backward()
        of_G.step()
        of_D.zero_grad()
        adversary.discriminator_loss(real=x, fake=y, step=step).backward()
        of_D.step()
    return copy.deepcopy(parameters)


@BACKENDS
def test_compiled_networks_are_trained_as_others_are(backend):
    torch.manual_seed(0)
    expected = weights_after_training(False, backend)
    torch.manual_seed(0)
    for one, other in zip(expected, weights_after_training(True, backend), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
