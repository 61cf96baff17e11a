"""Networks that record how they are called, and comparisons of weights."""

from __future__ import annotations

import torch
from torch import nn


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in network.state_dict().values()]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Recorder(nn.Module):
    """A network that records how it is called."""

    def __init__(self, network: nn.Module, log: list) -> None:
        super().__init__()
        self.network = network
        self.log = log

    def forward(self, x, condition=None):
        self.log.append(
            {
                "input": x.detach().clone(),
                "training": self.training,
                "graph": torch.is_grad_enabled(),
                "frozen": not any(p.requires_grad for p in self.parameters()),
                "condition": condition,
            }
        )
        return self.network(x)


def recorded(make_trainer, **options):
    plain = make_trainer()
    log_G, log_D = [], []
    trainer = make_trainer(Recorder(plain.generator, log_G), Recorder(plain.discriminator, log_D), **options)
    log_G.clear(), log_D.clear()  # of the check of shapes
    return trainer, log_G, log_D
