"""A small model whose numbers all follow from a formula, and the terms that it is trained with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def filled(*shape: int, phase: float) -> Tensor:
    """Return a tensor of sines in float64, which no version of torch changes."""
    return torch.sin(0.7 * torch.arange(math.prod(shape), dtype=torch.float64) + phase).reshape(shape)


def last_layer() -> nn.Parameter:
    """Return the weight of a convolution from three channels to two."""
    return nn.Parameter(0.3 * filled(2, 3, 3, 3, phase=1.0))


def pictures(weight: Tensor, step: int = 0) -> tuple[Tensor, Tensor]:
    """Return three pictures of an odd size as the last layer makes them, and what they should be."""
    features = filled(3, 3, 5, 7, phase=2.0 + step)
    return F.conv2d(features, weight, padding=1), filled(3, 2, 5, 7, phase=3.0 + step)


def judged(samples: Tensor) -> Tensor:
    """Return a map of logits, `(N, 1, 4, 6)`, as a discriminator by position does."""
    return F.conv2d(samples, filled(1, 2, 2, 2, phase=4.0)) - 0.2


def terms(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return three terms of very different sizes."""
    return {
        "l1": (output - target).abs().mean(),
        "adversarial": -judged(output).mean(),
        "feature": 40 * (judged(output) - judged(target)).abs().mean(),
    }
