"""Constraints with one mistake each, and the rule that each breaks."""

from __future__ import annotations

import torch
from torch import nn

from gankit.regularizers import WeightClipping


class EveryZero(WeightClipping):
    def __post_init__(self):
        pass


class ClipsWithAGraph(WeightClipping):
    def apply(self, network):
        for parameter in network.parameters():
            parameter.clamp_(-self.bound, self.bound)


class ReplacesParameters(WeightClipping):
    def apply(self, network):
        for module in network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.detach().clamp(-self.bound, self.bound)))


class ClipsAtRandom(WeightClipping):
    def apply(self, network):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.clamp_(-self.bound, self.bound + 1e-3 * torch.rand(()))


class ReadsTheNorm(WeightClipping):
    def apply(self, network):
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.norm() > self.bound:
                    parameter.mul_(self.bound / parameter.norm())


WRONG_CONSTRAINTS = [
    (EveryZero(every=0), "protocol"),
    (ClipsWithAGraph(), "no-graph"),
    (ReplacesParameters(), "in-place"),
    (ClipsAtRandom(), "no-global-random"),
    (ReadsTheNorm(), "no-host-reads"),
]
