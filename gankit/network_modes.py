"""Modes that networks and torch are put into for the duration of a `with` block."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def train(network: nn.Module) -> None:
    """Put a network into train mode, except for what its owner has frozen in eval mode.

    A module that is in eval mode, and has parameters of which none requires a gradient, keeps its mode, and so do the
    modules in it. A module without parameters, such as Dropout, is in the mode of the module that contains it: it keeps
    eval mode in a frozen one, and nowhere else.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.Linear(2, 1)).eval()
        >>> _ = network[0].requires_grad_(False)
        >>> train(network)
        >>> [layer.training for layer in network]
        [False, True, True]
    """
    kept = [layer for part in network.modules() if is_frozen_in_eval_mode(part) for layer in part.modules()]
    modes = [layer.training for layer in kept]
    network.train()
    for layer, mode in zip(kept, modes, strict=True):
        layer.training = mode


def is_frozen_in_eval_mode(module: nn.Module) -> bool:
    """Return whether a module is in eval mode and has parameters of which none requires a gradient.

    Example:
        >>> layer = nn.Linear(1, 1).requires_grad_(False)
        >>> is_frozen_in_eval_mode(layer), is_frozen_in_eval_mode(layer.eval())
        (False, True)
    """
    if module.training:
        return False
    flags = [parameter.requires_grad for parameter in module.parameters()]
    return bool(flags) and not any(flags)


@contextmanager
def evaluating(network: nn.Module) -> Generator[None]:
    """Put the network into eval mode, and afterwards put the layers that were in train mode back into it.

    Example:
        >>> layer = nn.Dropout()
        >>> with evaluating(layer):
        ...     layer.training
        False
        >>> layer.training
        True
    """
    layers = [layer for layer in network.modules() if layer.training]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


@contextmanager
def tf32() -> Generator[None]:
    """Let CUDA multiply float32 matrices on tensor cores, which keep ten bits of the mantissa.

    Example:
        >>> with tf32():
        ...     torch.backends.cuda.matmul.fp32_precision
        'tf32'
    """
    cudnn: Any = torch.backends.cudnn
    switches: list[Any] = [torch.backends.cuda.matmul, cudnn.conv]
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "tf32"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
