"""What a penalty is called on: two small networks and a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gankit.context import widened
from gankit.protocols import Regularizer
from gankit.testing.common import normal

COUNT = 5
CLASSES = 3
LATENT_DIM = 4


def _layer(in_features: int, out_features: int, seed: int) -> nn.Linear:
    # its own initial weights would come from the global generator
    layer = nn.Linear(in_features, out_features, device="meta", dtype=torch.float32).to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.copy_(normal(out_features, in_features, seed=seed) * 2 / math.sqrt(in_features))
        layer.bias.copy_(normal(out_features, seed=seed + 1))
    return layer


class _Conditional(nn.Module):
    """A smooth network that keeps its inputs and notes where its condition is left out."""

    def __init__(self, in_features: int, out_features: int, conditional: bool, seed: int) -> None:
        super().__init__()
        self.first = _layer(in_features, 16, seed)
        self.second = _layer(16, 16, seed + 10)
        self.last = _layer(16, out_features, seed + 20)
        self.code = _layer(CLASSES, 16, seed + 30)
        self.conditional = conditional
        self.gain = 1.0
        self.seen: list[Tensor] = []
        self.misuse: str | None = None

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the last layer sees."""
        self.seen.append(x.detach())
        hidden = self.first(x.flatten(1))
        if self.conditional and (condition is None or len(condition) != len(x)):
            self.misuse = f"with {'no condition' if condition is None else f'{len(condition)} conditions'} for {len(x)}"
        elif self.conditional and condition is not None:
            labels = torch.arange(CLASSES, device=x.device) == condition[:, None]
            hidden = hidden + self.code(labels.to(x.dtype))
        return silu(self.second(silu(hidden)))


class Critic(_Conditional):
    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.gain * 4 * self.last(self.features(x, condition)).squeeze(1)


class Pupil(_Conditional):
    def __init__(self, sample_shape: Sequence[int], conditional: bool) -> None:
        super().__init__(LATENT_DIM, math.prod(sample_shape), conditional, seed=200)
        self.sample_shape = tuple(sample_shape)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.gain * self.last(self.features(z, condition)).view(len(z), *self.sample_shape)


class Scene:
    """Two networks and a batch, as the trainer would have them in the part's half of a step."""

    def __init__(self, part: Regularizer, shape: Sequence[int], conditional: bool = False, device: str = "cpu") -> None:
        self.half = part.half
        self.device = device
        self.discriminator = Critic(math.prod(shape), 1, conditional, seed=100).to(device)
        self.generator = Pupil(shape, conditional).to(device)
        self.real = normal(COUNT, *shape, seed=1).to(device)
        self.latent = normal(COUNT, LATENT_DIM, seed=2).to(device)
        self.condition = torch.tensor([0, 2, 1, 1, 0], device=device) if conditional else None
        if self.half == "generator":
            self.discriminator.requires_grad_(False)

    @property
    def learner(self) -> nn.Module:
        return self.discriminator if self.half == "discriminator" else self.generator

    def samples(self, part: Regularizer) -> Tensor:
        """The fakes: without a graph for D, with one for G."""
        if self.half == "generator" and "latent" in part.gradient_inputs:
            self.latent.requires_grad_()
        arguments = (self.latent,) if self.condition is None else (self.latent, self.condition)
        with torch.set_grad_enabled(self.half == "generator"):
            fake = widened(self.generator(*arguments))
        self.generator.seen.clear()
        return fake
