"""What penalties with moving averages share: they are 0-d buffers, or have one value a replica."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from gankit.errors import BadValueError


def check_decay(decay: float) -> None:
    """Raise `BadValueError` unless `decay` is in [0, 1).

    Example:
        >>> check_decay(1.0)
        Traceback (most recent call last):
        gankit.errors.BadValueError: decay must be in [0, 1), got 1.0
    """
    if not 0 <= decay < 1:
        raise BadValueError(f"decay must be in [0, 1), got {decay!r}")


def fitted(average: Tensor, value: Tensor) -> Tensor:
    """Return `average` in the shape and type and on the device of `value`: itself, where it is so already.

    How many replicas there are, and where, is known only when a penalty is called.

    Example:
        >>> fitted(torch.zeros(()), torch.ones(3, dtype=torch.float64))
        tensor([0., 0., 0.], dtype=torch.float64)
    """
    if (average.shape, average.dtype, average.device) == (value.shape, value.dtype, value.device):
        return average
    return average.to(value).expand(value.shape).clone()


def take_shapes(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Give a module's buffers the shapes and types of a state that is about to be loaded.

    Example:
        >>> module = nn.Module()
        >>> module.register_buffer("average", torch.zeros(()))
        >>> take_shapes(module, {"average": torch.zeros(3)}, "")
        >>> module.average
        tensor([0., 0., 0.])
    """
    for name, buffer in list(module.named_buffers(recurse=False)):
        if prefix + name in state:
            saved = cast(Tensor, state[prefix + name])
            setattr(module, name, torch.zeros_like(saved, device=buffer.device))
