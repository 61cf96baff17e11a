"""Convolutional blocks, which halve or double pictures `(N, in_channels, H, W)`."""

from __future__ import annotations

import torch
from torch import nn

from gankit.blocks.registry import BLOCKS
from gankit.errors import check_finite


@BLOCKS.register("conv_bn_leaky_relu")
def conv_bn_leaky_relu(
    in_channels: int,
    out_channels: int,
    *,
    negative_slope: float = 0.2,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Strided convolution, BatchNorm, LeakyReLU(0.2): halves the picture (Radford et al. 2015, section 3).

    The kernel is 4x4 with stride 2 and padding 1. The convolution has no bias, because BatchNorm adds one.

    Example:
        >>> conv_bn_leaky_relu(64, 128)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 128, 7, 7])
    """
    check_finite("negative_slope", negative_slope)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 4, 2, 1, bias=False, device=device, dtype=dtype),
        nn.BatchNorm2d(out_channels, device=device, dtype=dtype),
        nn.LeakyReLU(negative_slope),
    )


@BLOCKS.register("conv_leaky_relu")
def conv_leaky_relu(
    in_channels: int,
    out_channels: int,
    *,
    negative_slope: float = 0.2,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Strided convolution, LeakyReLU(0.2): halves the picture without BatchNorm (Gulrajani et al. 2017, section 4).

    The kernel is 4x4 with stride 2 and padding 1. A discriminator with gradient penalties should not join the samples
    of a batch, as BatchNorm does.

    Example:
        >>> conv_leaky_relu(64, 128)(torch.randn(2, 64, 14, 14)).shape
        torch.Size([2, 128, 7, 7])
    """
    check_finite("negative_slope", negative_slope)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 4, 2, 1, device=device, dtype=dtype),
        nn.LeakyReLU(negative_slope),
    )


@BLOCKS.register("conv_transpose_bn_relu")
def conv_transpose_bn_relu(
    in_channels: int,
    out_channels: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Transposed convolution, BatchNorm, ReLU: doubles the picture (Radford et al. 2015, section 3).

    The kernel is 4x4 with stride 2 and padding 1. The convolution has no bias, because BatchNorm adds one.

    Example:
        >>> conv_transpose_bn_relu(128, 64)(torch.randn(2, 128, 7, 7)).shape
        torch.Size([2, 64, 14, 14])
    """
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False, device=device, dtype=dtype),
        nn.BatchNorm2d(out_channels, device=device, dtype=dtype),
        nn.ReLU(inplace=True),
    )
