"""Discriminators inside the wrappers that training with several processes puts around them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gankit.errors import DistributedError

CHECK_EVERY_CALLS = 1000
"""Every how many calls the weights of the ranks are compared, besides the first three and each power of 2."""


@contextmanager
def unsynchronized(network: nn.Module) -> Generator[None]:
    """Let forward passes in a `with` block go through `DistributedDataParallel` without preparing an exchange.

    The wrapper prepares the exchange of gradients in each forward pass, and expects exactly one backward pass for it.
    In the generator's half D is frozen, so there is nothing to exchange; in D's half, the first pass has prepared it
    already. A second broadcast of the buffers would change them between a forward pass and its backward pass.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> with unsynchronized(layer):
        ...     layer(torch.zeros(1, 1)).shape
        torch.Size([1, 1])
    """
    with ExitStack() as stack:
        if dist.is_available() and dist.is_initialized():
            for wrapper in network.modules():
                if isinstance(wrapper, DistributedDataParallel):
                    before = wrapper.require_forward_param_sync
                    stack.callback(setattr, wrapper, "require_forward_param_sync", before)
                    stack.enter_context(wrapper.no_sync())
                    wrapper.require_forward_param_sync = False
        yield


class DriftCheck:
    """Compares the weights of a discriminator over the ranks, at its first calls and then rarely.

    Args:
        name: What the discriminator is called in the message.

    Example:
        >>> DriftCheck("the discriminator")(nn.Linear(1, 1))  # one process
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls = 0

    def __call__(self, network: nn.Module) -> None:
        """Compare the weights if it is time to; every rank must call it equally often.

        Raises:
            DistributedError: If the weights of the ranks have drifted apart.
        """
        self._calls += 1
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
            return
        # weights drift apart with D's first update, which may come after many calls if gradients are accumulated
        is_power_of_two = self._calls & (self._calls - 1) == 0
        if self._calls > 3 and self._calls % CHECK_EVERY_CALLS and not is_power_of_two:
            return
        if _is_sharded(network):
            return
        total = checksum(network)
        extremes = torch.stack([total, -total])
        dist.all_reduce(extremes, dist.ReduceOp.MAX)
        largest, smallest = extremes[0].item(), -extremes[1].item()
        if largest - smallest > 1e-9 * max(abs(largest), abs(smallest)):
            raise DistributedError(
                f"the weights of {self._name} differ between the ranks, as happens if it is called past its "
                "DistributedDataParallel wrapper, so that its gradients are not averaged; give the wrapped module, the "
                "same on every rank"
            )


def _is_sharded(network: nn.Module) -> bool:
    """Return whether each rank holds a part of the weights of its own, as with FSDP."""
    from torch.distributed.fsdp import FullyShardedDataParallel  # slow to import, and only needed with several ranks
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in network.parameters()) or any(
        isinstance(module, FullyShardedDataParallel) for module in network.modules()
    )


def checksum(network: nn.Module) -> Tensor:
    """Return a number, in float64, that differs if the weights of two networks do.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(layer.weight, 2.0)
        >>> round(checksum(layer).item(), 3)
        1.091
    """
    parameters = [parameter.detach() for parameter in network.parameters()]
    place = parameters[0].device if parameters else torch.device("cpu")
    total = torch.zeros((), dtype=torch.float64, device=place)
    for index, parameter in enumerate(parameters):
        # weighted differently by place and by parameter, so that two changes do not cancel
        weights = torch.cos(torch.arange(parameter.numel(), dtype=torch.float64, device=parameter.device) + index + 1)
        total = total + (parameter.flatten().double() * (weights + 0.005)).sum().to(place)
    return total


def mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes of torch's default group, or the tensor if there is only one.

    Example:
        >>> mean_over_ranks(torch.tensor(2.0))
        tensor(2.)
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() < 2:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
