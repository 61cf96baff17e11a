"""Fully connected blocks, from `(N, in_features)` to `(N, out_features)`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gankit.blocks.registry import BLOCKS
from gankit.errors import check_count, check_finite


@BLOCKS.register("linear_bn_relu")
def linear_bn_relu(
    in_features: int,
    out_features: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Linear, BatchNorm, ReLU: the vanilla GAN's generator block (Ioffe & Szegedy 2015).

    Formula: `relu(batch_norm(W x + b))`. In train mode it needs two or more samples.

    Example:
        >>> linear_bn_relu(10, 128)(torch.randn(4, 10)).shape
        torch.Size([4, 128])
    """
    return nn.Sequential(
        nn.Linear(in_features, out_features, device=device, dtype=dtype),
        nn.BatchNorm1d(out_features, device=device, dtype=dtype),
        nn.ReLU(inplace=True),
    )


@BLOCKS.register("linear_leaky_relu")
def linear_leaky_relu(
    in_features: int,
    out_features: int,
    *,
    negative_slope: float = 0.2,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Linear, LeakyReLU(0.2): the vanilla GAN's discriminator block (Maas et al. 2013).

    Formula: `max(y, negative_slope * y)` with `y = W x + b`.

    Example:
        >>> linear_leaky_relu(784, 512)(torch.randn(4, 784)).shape
        torch.Size([4, 512])
    """
    check_finite("negative_slope", negative_slope)
    return nn.Sequential(
        nn.Linear(in_features, out_features, device=device, dtype=dtype),
        nn.LeakyReLU(negative_slope),
    )


@BLOCKS.register("linear_relu")
def linear_relu(
    in_features: int,
    out_features: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    """Linear, ReLU (Goodfellow et al. 2014, the generator on MNIST).

    Formula: `max(0, W x + b)`.

    Example:
        >>> bool((linear_relu(3, 5)(torch.randn(4, 3)) >= 0).all())
        True
    """
    return nn.Sequential(
        nn.Linear(in_features, out_features, device=device, dtype=dtype),
        nn.ReLU(inplace=True),
    )


@BLOCKS.register("maxout")
class Maxout(nn.Module):
    """Maxout: the largest of several linear functions (Goodfellow et al. 2013, section 3).

    Formula: `h_i(x) = max_j (x . W_ij + b_ij)` over `j` in 1..pieces. Goodfellow et al. 2014 used it in their
    discriminators.

    Args:
        in_features: The input width.
        out_features: The output width.
        pieces: The number of linear functions of which each output unit takes the maximum.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Raises:
        BadValueError: If `pieces` is less than 1.

    Example:
        >>> Maxout(784, 240, pieces=5)(torch.randn(4, 784)).shape
        torch.Size([4, 240])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        pieces: int = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("pieces", pieces)
        super().__init__()
        self.pieces = pieces
        self.linear: nn.Linear = nn.Linear(in_features, out_features * pieces, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(..., out_features)` for inputs `(..., in_features)`."""
        return self.linear(x).unflatten(-1, (-1, self.pieces)).amax(-1)
