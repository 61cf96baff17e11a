"""Batch normalisation over the samples of all ranks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from typing_extensions import override

from gankit.training.parallel.ranks import Ranks, SumOverRanks


class SynchronizedBatchNorm(_BatchNorm):
    """Batch normalisation (Ioffe & Szegedy 2015) with the mean and variance over the samples of all ranks.

    It computes what torch's `BatchNorm1d`, `2d` and `3d` compute for the samples of all ranks together. It runs on any
    device and can be differentiated any number of times, as gradient penalties need; torch's `SyncBatchNorm` is for
    CUDA and can be differentiated once. In eval mode, and in a single process, nothing is exchanged. Inputs have the
    shape `(N, C)` or `(N, C, ...)`, where N may differ between the ranks.

    Args:
        layer: torch's layer. Its parameters and buffers are used, not copied.

    Example:
        >>> layer = SynchronizedBatchNorm(nn.BatchNorm1d(3))
        >>> torch.equal(layer(torch.ones(4, 3)), torch.zeros(4, 3))
        True
    """

    def __init__(self, layer: _BatchNorm) -> None:
        options = (layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        super().__init__(layer.num_features, *options)  # pyright: ignore[reportUnknownMemberType]
        self._parameters, self._buffers = layer._parameters, layer._buffers
        self.training: bool = layer.training

    @override
    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (N, C) or (N, C, ...), got {tuple(input.shape)}")

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input. This is collective in train mode."""
        if not self.training or Ranks.present().size == 1:
            return super().forward(input)
        self._check_input_dim(input)
        if isinstance(input, FakeTensor):  # a run on fake tensors only determines shapes
            return torch.empty_like(input)
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        over = [i for i in range(x.ndim) if i != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        count = x.new_full((1,), x.numel() / x.shape[1])
        sums = _sum_over_ranks(torch.cat([x.sum(over), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = x - mean.view(shape)
        # the mean of the squares minus the square of the mean would lose digits
        variance = _sum_over_ranks((centred * centred).sum(over)) / total
        self._track(mean.detach(), variance.detach(), total)
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normalised = torch.addcmul(self.bias.view(shape), normalised, self.weight.view(shape))
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        counted = cast(Tensor, self.num_batches_tracked)
        counted.add_(1)
        weight = 1 / counted.to(mean.dtype) if self.momentum is None else self.momentum
        unbiased = variance * (total / (total - 1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight)


def synchronize_batch_norm(network: nn.Module) -> nn.Module:
    """Replace each of torch's BatchNorm layers by a `SynchronizedBatchNorm` with the same parameters and names.

    Args:
        network: The network, which is changed in place unless it is such a layer itself.

    Returns:
        The network, or the layer that takes its place.

    Example:
        >>> network = synchronize_batch_norm(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        >>> type(network[1]).__name__, list(network.state_dict())[2:4]
        ('SynchronizedBatchNorm', ['1.weight', '1.bias'])
    """
    return _synchronize(network, {})


def _synchronize(network: nn.Module, replaced: dict[nn.Module, nn.Module]) -> nn.Module:
    """Replace the layers in a network, one that is registered under several names by the same layer everywhere."""
    if isinstance(network, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)):
        if network not in replaced:
            replaced[network] = SynchronizedBatchNorm(network)
        return replaced[network]
    children = [(name, child) for name, child in vars(network)["_modules"].items() if child is not None]
    for name, child in children:
        if (other := _synchronize(child, replaced)) is not child:
            setattr(network, name, other)
    return network


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    return cast(Tensor, SumOverRanks.apply(tensor))
