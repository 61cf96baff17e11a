"""`HalfStep`: two small networks and a batch, as the trainer has them in one half of a training step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from gankit.answers import Answer, widened
from gankit.protocols import Half, Regularizer
from gankit.testing.tensors import standard_normal

Judged: TypeAlias = Literal["samples", "positions", "heads"]
"""What D judges: samples as a whole, the positions of a map, or the positions of two heads."""

BATCH_SIZE = 5
NUM_CLASSES = 3
LATENT_DIM = 4


def _linear(in_features: int, out_features: int, seed: int) -> nn.Linear:
    # nn.Linear would draw its initial weights from the global generator
    layer = nn.Linear(in_features, out_features, device="meta", dtype=torch.float32).to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.copy_(standard_normal(out_features, in_features, seed=seed) * 2 / math.sqrt(in_features))
        layer.bias.copy_(standard_normal(out_features, seed=seed + 1))
    return layer


class _SmallNetwork(nn.Module):
    """A smooth network that records its inputs and calls with missing conditions.

    Attributes:
        gain: The factor of the output.
        seen: The inputs of all calls.
        misuse: The last call with a wrong number of conditions, in words; None if there was none.
    """

    def __init__(self, in_features: int, out_features: int, conditional: bool, seed: int) -> None:
        super().__init__()
        self.first: nn.Linear = _linear(in_features, 16, seed)
        self.second: nn.Linear = _linear(16, 16, seed + 10)
        self.last: nn.Linear = _linear(16, out_features, seed + 20)
        self.embedding: nn.Linear = _linear(NUM_CLASSES, 16, seed + 30)
        self.conditional = conditional
        self.gain: float = 1.0
        self.seen: list[Tensor] = []
        self.misuse: str | None = None

    def features(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the input of the last layer."""
        self.seen.append(x.detach())
        hidden = self.first(x.flatten(1))
        if self.conditional:
            if condition is not None and len(condition) == len(x):
                one_hot = torch.arange(NUM_CLASSES, device=x.device) == condition[:, None]
                hidden = hidden + self.embedding(one_hot.to(x.dtype))
            else:
                count = "no condition" if condition is None else f"{len(condition)} conditions"
                self.misuse = f"with {count} for {len(x)} samples"
        return silu(self.second(silu(hidden)))


class SmallDiscriminator(_SmallNetwork):
    """A small D, for samples of any shape.

    Attributes:
        positions: The number of judgements that each head gives a sample.
        slope: If not None, D is linear, and this is its gradient for each sample.

    Example:
        >>> SmallDiscriminator(2, conditional=False)(torch.zeros(5, 2)).shape
        torch.Size([5])
        >>> SmallDiscriminator(2, conditional=False, judged="positions")(torch.zeros(5, 2)).shape
        torch.Size([5, 1, 2, 3])
    """

    def __init__(self, in_features: int, conditional: bool, judged: Judged = "samples") -> None:
        self.positions: tuple[int, ...] = {"samples": (1,), "positions": (6,), "heads": (2, 3)}[judged]
        super().__init__(in_features, sum(self.positions), conditional, seed=100)
        self.judged = judged
        self.slope: Tensor | None = None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor | Answer:
        """Return logits."""
        if self.slope is not None:
            return (self.slope * x).flatten(1).sum(1)
        logits = self.gain * 4 * self.last(self.features(x, condition))
        if self.judged == "heads":
            return Answer(logits.split(self.positions, 1))
        return logits.squeeze(1) if self.judged == "samples" else logits.unflatten(1, (1, 2, 3))


class SmallGenerator(_SmallNetwork):
    """A small G of samples of one shape.

    Example:
        >>> SmallGenerator((3, 8, 8), conditional=False)(torch.zeros(5, LATENT_DIM)).shape
        torch.Size([5, 3, 8, 8])
    """

    def __init__(self, sample_shape: Sequence[int], conditional: bool) -> None:
        super().__init__(LATENT_DIM, math.prod(sample_shape), conditional, seed=200)
        self.sample_shape: tuple[int, ...] = tuple(sample_shape)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return samples."""
        return self.gain * self.last(self.features(z, condition)).view(len(z), *self.sample_shape)


class HalfStep:
    """Two networks and a batch, as the trainer has them in one half of a training step.

    Args:
        part: The regularizer; its `half` chooses the half of the step.
        sample_shape: The shape of one sample.
        conditional: Whether the networks take a condition.
        device: The device of the networks and the batch.
        judged: What D judges.

    Example:
        >>> from gankit.regularizers import R1
        >>> HalfStep(R1(), (2,)).real.shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        part: Regularizer,
        sample_shape: Sequence[int],
        conditional: bool = False,
        device: str = "cpu",
        judged: Judged = "samples",
    ) -> None:
        self.half: Half = part.half
        self.device = device
        discriminator = SmallDiscriminator(math.prod(sample_shape), conditional, judged)
        self.discriminator: SmallDiscriminator = discriminator.to(device)
        self.generator: SmallGenerator = SmallGenerator(sample_shape, conditional).to(device)
        self.real: Tensor = standard_normal(BATCH_SIZE, *sample_shape, seed=1).to(device)
        self.latent: Tensor = standard_normal(BATCH_SIZE, LATENT_DIM, seed=2).to(device)
        self.condition: Tensor | None = torch.tensor([0, 2, 1, 1, 0], device=device) if conditional else None
        if self.half == "generator":
            self.discriminator.requires_grad_(False)

    @property
    def trained_network(self) -> nn.Module:
        """The network that this half of the step updates."""
        return self.discriminator if self.half == "discriminator" else self.generator

    def generate(self, part: Regularizer) -> Tensor:
        """Generate the fakes, with a graph in the generator's half only."""
        if self.half == "generator" and "latent" in part.gradient_inputs:
            self.latent.requires_grad_()
        arguments = (self.latent,) if self.condition is None else (self.latent, self.condition)
        with torch.set_grad_enabled(self.half == "generator"):
            fake = widened(self.generator(*arguments))
        self.generator.seen.clear()
        return fake
