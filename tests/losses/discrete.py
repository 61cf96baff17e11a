"""Expectations of a loss over two discrete distributions, in float64."""

from __future__ import annotations

import hypothesis.strategies as st
import torch
from torch import Tensor

from gankit.protocols import AdversarialLoss

# weights of at least 1/20 keep the optimal logits where softplus is not yet linear (its threshold is 20)
distributions = st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4).map(
    lambda weights: torch.tensor(weights, dtype=torch.float64) / sum(weights)
)


def expected_discriminator_loss(loss: AdversarialLoss, logits: Tensor, p: Tensor, q: Tensor) -> float:
    """E over x ~ p, y ~ q of the loss of the pair, where D answers outcome i with logits[i]."""
    real, fake = (one.reshape(-1) for one in torch.meshgrid(logits, logits, indexing="ij"))
    weight = (p[:, None] * q[None, :]).reshape(-1)
    return float((weight * loss.discriminator_loss(real, fake)).sum())


def expected_generator_loss(loss: AdversarialLoss, logits: Tensor, q: Tensor) -> float:
    """E over y ~ q of the generator's loss."""
    return float((q * loss.generator_loss(logits)).sum())
