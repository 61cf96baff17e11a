"""The gradients of one half of a step: which parameters get one, and how they reach the optimizer."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def frozen(network: nn.Module, but: Sequence[Tensor]) -> Generator[None]:
    """Make the network's parameters require no gradient for the duration of a `with` block.

    Args:
        network: The network whose parameters are frozen.
        but: Parameters that are left as they are, such as those that the network shares with another one.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> with frozen(layer, but=[]):
        ...     layer.weight.requires_grad
        False
        >>> layer.weight.requires_grad
        True
    """
    kept = set(map(id, but))
    parameters = [parameter for parameter in trainable_parameters(network) if id(parameter) not in kept]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def trainable_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that require a gradient.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> _ = layer.bias.requires_grad_(False)
        >>> [tuple(parameter.shape) for parameter in trainable_parameters(layer)]
        [(1, 2)]
    """
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def held_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the parameters of an optimizer's groups, in order.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> [tuple(parameter.shape) for parameter in held_parameters(torch.optim.SGD(layer.parameters()))]
        [(1, 2), (1,)]
    """
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def put_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Store each gradient in its parameter's `.grad` as `.backward()` does, and call the parameter's hooks.

    That is with the parameter's memory layout, because a fused optimizer reads the memory of both in the same order,
    and with memory of its own, because the gradients of `p + q` are one tensor, which would be clipped twice. The
    hooks are those of `register_post_accumulate_grad_hook`.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2, 3))
        >>> put_gradients([weight], [torch.ones(3, 2).t()])
        >>> weight.grad.stride() == weight.stride()
        True
    """
    taken: set[int] = set()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and gradient.layout == torch.strided:
            if gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter, requires_grad=False).copy_(gradient)
            elif gradient.data_ptr() in taken:
                gradient = gradient.clone()
            taken.add(gradient.data_ptr())
        parameter.grad = gradient
        hooks: Any = parameter._post_accumulate_grad_hooks  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        if hooks and gradient is not None:
            with torch.no_grad():
                for hook in list(hooks.values()):
                    hook(parameter)


@torch.no_grad()
def clip_gradient_norm(parameters: Sequence[Tensor], max_norm: float, replicas: int | None = None) -> Tensor:
    """Scale the gradients so that their common norm is at most `max_norm`. Each replica is scaled by itself.

    Args:
        parameters: The parameters whose `.grad` is scaled if they have one.
        max_norm: The largest norm that is left as it is.
        replicas: The number of replicas R, for parameters with a leading dimension R. None for a single network.

    Returns:
        The norm before scaling: 0-d, or `(R,)` with replicas.

    Example:
        >>> weight = nn.Parameter(torch.zeros(2, 2))
        >>> weight.grad = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
        >>> clip_gradient_norm([weight], 1.0, replicas=2), weight.grad
        (tensor([5.0000, 0.5000]), tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]]))
    """
    if replicas is None:
        return nn.utils.clip_grad_norm_(parameters, max_norm)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
    norm = torch.stack(squares).sum(0).sqrt()
    # 1e-6 avoids a division by zero, as in torch's own function
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))
    return norm
