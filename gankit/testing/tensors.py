"""Reproducible test tensors, and their shapes in messages."""

from __future__ import annotations

import torch
from torch import Tensor


def standard_normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw standard normal numbers from a new random generator; the same seed gives the same numbers.

    Example:
        >>> bool((standard_normal(2, 3, seed=1) == standard_normal(2, 3, seed=1)).all())
        True
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def shape_text(tensor: Tensor) -> str:
    """Return a tensor's shape as text for messages.

    Example:
        >>> shape_text(torch.zeros(4, 1))
        '(4, 1)'
    """
    return str(tuple(tensor.shape))
