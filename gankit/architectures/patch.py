"""PatchGAN: a discriminator that judges each patch of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Features
from gankit.architectures.base import PositionalDiscriminator, outputs_of
from gankit.architectures.block_stacks import given_options
from gankit.architectures.dcgan import initialise
from gankit.architectures.layers import normalise_spectrally
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadValueError, check_count

Normalization = Literal["batch", "instance", "spectral", "none"]


@DISCRIMINATORS.register("patch")
class PatchDiscriminator(PositionalDiscriminator):
    """PatchGAN: one logit for each patch of the picture (Isola et al. 2017, pix2pix, sections 3.2.2 and 6.1.2).

    Formula: `depth` convolutions with stride 2 and one with stride 1, each with normalisation and LeakyReLU(0.2); a
    last convolution with stride 1 to one logit per position. The first convolution has no normalisation. The number of
    channels begins with `hidden_dim` and doubles up to 8 times that. A logit depends on a square of
    `1 + (kernel_size - 1) * (3 * 2**depth - 1)` pixels a side: 16, 34, 70, 142, 286 for depths of 1 to 5 and kernels of
    4. In train mode the statistics of `batch` and `instance` depend on all pixels. For 256 pixels:
    `3 x 256 x 256 -> 64 x 128 x 128 -> 128 x 64 x 64 -> 256 x 32 x 32 -> 512 x 31 x 31 -> 1 x 30 x 30`.

    The network is fully convolutional: it takes pictures of any height and width from `minimum_size` on, odd ones too.
    Initial weights are those of the published code: N(0, 0.02), BatchNorm's scales N(1, 0.02), and biases of zero. The
    convolutions have biases, except before BatchNorm.

    Args:
        sample_shape: `(C, H, W)`.
        hidden_dim: The number of channels after the first convolution.
        depth: The number of convolutions with stride 2.
        normalization: `batch` for BatchNorm; `instance` for InstanceNorm without a scale; `spectral` to divide every
            weight by its largest singular value (Miyato et al. 2018); or `none`. BatchNorm joins the samples of a
            batch, so concatenated passes refuse it, and gradient penalties should not be used with it.
        kernel_size: The side of all kernels, 2 or more. The padding is `(kernel_size - 1) // 2`.
        features: Return an `Answer` with the output of each LeakyReLU as its features, from the same forward pass.
        num_classes: The number of classes of a conditional discriminator, which is called as `forward(x, labels)` and
            gets one more plane per class. None for one without labels.
        condition_channels: The number of channels of a condition that is a picture `(N, condition_channels, H, W)`, as
            large as the sample; it is joined to the sample as further channels. None for one without such a condition.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        network: The inner network, from pictures to maps of logits.
        minimum_size: The smallest height and width that leave a position to judge.
        receptive_field: The side of the square of pixels that a logit depends on.

    Raises:
        BadArgumentsError: If both `num_classes` and `condition_channels` are given, or a condition is missing or not
            expected.
        BadValueError: If a number is too small.
        ShapeError: If pictures or conditions have another shape, or pictures are smaller than `minimum_size`.

    Example:
        >>> D = PatchDiscriminator((3, 64, 64), hidden_dim=8)
        >>> D(torch.rand(2, 3, 64, 64)).shape, D(torch.rand(2, 3, 45, 70)).shape, D.receptive_field
        (torch.Size([2, 1, 6, 6]), torch.Size([2, 1, 3, 6]), 70)
        >>> answer = PatchDiscriminator((3, 64, 64), hidden_dim=8, features=True)(torch.rand(2, 3, 64, 64))
        >>> len(answer.features), answer.features[-1].shape
        (4, torch.Size([2, 64, 7, 7]))
    """

    kind: str = "patch"

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 64,
        depth: int = 3,
        normalization: Normalization = "batch",
        kernel_size: int = 4,
        features: bool = False,
        num_classes: int | None = None,
        condition_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("hidden_dim", hidden_dim)
        check_count("depth", depth)
        check_count("kernel_size", kernel_size)
        if kernel_size < 2:
            raise BadValueError(f"kernel_size must be 2 or more, because stride 2 skips pixels, got {kernel_size}")
        if normalization not in get_args(Normalization):
            choices = ", ".join(get_args(Normalization))
            raise BadValueError(f"normalization must be one of {choices}, got {normalization!r}")
        super().__init__(
            sample_shape,
            dimensions=2,
            num_classes=num_classes,
            condition_channels=condition_channels,
            features=features,
        )
        self.depth = depth
        # an even kernel with stride 1 loses a position, and InstanceNorm needs two of them
        odd = kernel_size % 2
        smallest = 1 + max(1 - odd, normalization == "instance") + (1 - odd)
        self.minimum_sizes: Sequence[int] = [smallest * 2**one - odd * (2**one - 1) for one in range(1, depth + 1)]
        self.minimum_size: int = self.minimum_sizes[-1]
        self.receptive_field: int = 1 + (kernel_size - 1) * (3 * 2**depth - 1)
        self.check_size(self.sample_shape)

        factory = given_options(device, dtype)
        convolution = partial(nn.Conv2d, kernel_size=kernel_size, padding=(kernel_size - 1) // 2, **factory)
        widths = [hidden_dim * min(2**i, 8) for i in range(depth + 1)]
        self.network: nn.Sequential = nn.Sequential(
            nn.Sequential(convolution(self.input_channels, widths[0], stride=2), nn.LeakyReLU(0.2)),
            *[
                nn.Sequential(
                    convolution(before, after, stride=stride, bias=normalization != "batch"),
                    *_statistics(normalization, after, factory),
                    nn.LeakyReLU(0.2),
                )
                for (before, after), stride in zip(pairwise(widths), [2] * (depth - 1) + [1], strict=True)
            ],
            convolution(widths[-1], 1, stride=1),
        )
        initialise(self.network)
        for layer in self.network.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if normalization == "spectral":
            normalise_spectrally(self.network)

    @override
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits `(N, 1, H', W')` and the output of each LeakyReLU."""
        *features, logits = outputs_of(self.network, x)
        return (logits,), features


def _statistics(normalization: Normalization, channels: int, factory: dict[str, Any]) -> list[nn.Module]:
    if normalization == "batch":
        return [nn.BatchNorm2d(channels, **factory)]
    return [nn.InstanceNorm2d(channels)] if normalization == "instance" else []
