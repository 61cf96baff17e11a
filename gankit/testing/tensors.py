"""Reproducible tensors for the checks, and their shapes in messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor


def standard_normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return standard normal numbers. Equal seeds give equal numbers in every dtype, up to rounding.

    Example:
        >>> bool((standard_normal(2, 3, seed=1) == standard_normal(2, 3, seed=1)).all())
        True
    """
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gradients_of(output: Tensor, tensors: Iterable[Tensor]) -> list[Tensor | None]:
    """Return the gradient of a scalar with respect to each tensor; None for a tensor that it does not depend on.

    Example:
        >>> x, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> gradients_of(x.sum(), [x, unused])
        [tensor([1., 1.]), None]
    """
    # torch declares the result without None
    return list(cast("tuple[Tensor | None, ...]", torch.autograd.grad(output, list(tensors), allow_unused=True)))


def shape_text(tensor: Tensor) -> str:
    """Return a tensor's shape as messages show it.

    Example:
        >>> shape_text(torch.zeros(4, 1))
        '(4, 1)'
    """
    return str(tuple(tensor.shape))
