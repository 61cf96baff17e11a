"""Losses and penalties that cannot be compiled or captured."""

from __future__ import annotations

import torch
from torch import nn

from gankit.losses import NonSaturating


class Reads(NonSaturating):
    """A loss that reads a number on the host."""

    def generator_loss(self, fake_logits, real_logits=None):
        return super().generator_loss(fake_logits) * (1.0 if fake_logits.mean().item() > -100 else 0.5)


class Part:
    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()


class ReadsTheStep(Part):
    def __call__(self, context):
        return context.logits("real") * (context.step % 2)


class Replaces(nn.Module):
    """A penalty that replaces its buffer by a new tensor."""

    half = "discriminator"
    every = 1
    gradient_inputs = frozenset()

    def __init__(self, **factory):
        super().__init__()
        self.register_buffer("average", torch.zeros((), **factory))

    def forward(self, context):
        self.average = 0.9 * self.average + 0.1 * context.logits("real").detach().mean()
        return (context.logits("real") - self.average).square()


class Remembers(Part):
    """A penalty that keeps a tensor outside its buffers."""

    def __init__(self, **factory):
        self.average = torch.zeros((), **factory)

    def __call__(self, context):
        self.average = 0.9 * self.average + 0.1 * context.logits("real").detach().mean()
        return (context.logits("real") - self.average).square()
