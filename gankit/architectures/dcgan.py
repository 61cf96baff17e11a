"""Deep convolutional GANs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.architectures.base import Discriminator, Generator, append_planes, checked_shape
from gankit.architectures.block_stacks import BlockRef, OutputActivation, build_blocks, output_layers
from gankit.architectures.layers import MinibatchStandardDeviation, normalise_spectrally
from gankit.architectures.registry import DISCRIMINATORS, GENERATORS
from gankit.errors import ShapeError, check_count


def halvings(sample_shape: Sequence[int]) -> tuple[int, int]:
    """Return how often a picture is halved, and the remaining size of 4 to 7 pixels.

    Example:
        >>> halvings((1, 28, 28)), halvings((3, 64, 64))
        ((2, 7), (4, 4))
        >>> halvings((1, 30, 30))
        Traceback (most recent call last):
        gankit.errors.ShapeError: dcgan needs square pictures (C, S, S) with S = 4, 5, 6 or 7 times 2, 4, 8, \
16 ..., such as image_folder makes with size and fit, got (1, 30, 30)
    """
    shape = checked_shape(sample_shape)
    size, times = shape[-1], 0
    while size > 7 and size % 2 == 0:
        size, times = size // 2, times + 1
    if len(shape) != 3 or shape[1] != shape[2] or times == 0 or not 4 <= size <= 7:
        raise ShapeError(
            "dcgan needs square pictures (C, S, S) with S = 4, 5, 6 or 7 times 2, 4, 8, 16 ..., such as image_folder "
            f"makes with size and fit, got {shape}"
        )
    return times, size


def initialise(network: nn.Module) -> None:
    """Draw weights from N(0, 0.02) and BatchNorm's scales from N(1, 0.02) (Radford et al. 2015, section 4).

    Example:
        >>> layer = nn.Conv2d(64, 64, 4)
        >>> initialise(layer)
        >>> round(layer.weight.std().item(), 2)
        0.02
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


@GENERATORS.register("dcgan")
class DCGANGenerator(Generator):
    """Transposed convolutions that double the picture (Radford et al. 2015, fig. 1).

    Formula: a transposed convolution, BatchNorm and ReLU turn the latent into a map 4 to 7 pixels wide; each block
    doubles the map and halves its channels; a last transposed convolution outputs the picture. For 28 pixels:
    `z -> 128 x 7 x 7 -> 64 x 14 x 14 -> 1 x 28 x 28`. Kernels are 4x4 instead of the paper's 5x5, which avoids
    checkerboard artifacts (Odena et al. 2016).

    Args:
        latent_dim: The length of one latent.
        sample_shape: `(C, S, S)`, where S is 4, 5, 6 or 7 times 2, 4, 8, ..., such as 28.
        hidden_dim: The number of channels before the last layer. Each earlier layer has twice as many as the next.
        block: A name in `BLOCKS`, a `Spec`, or a function of two channel numbers; it must double the picture.
        output_activation: `sigmoid` for samples in [0, 1], `tanh` for [-1, 1], `identity` for any range.
        num_classes: The number of classes of a conditional generator, which is called as `forward(z, labels)`
            (Mirza & Osindero 2014). None for an unconditional one.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Raises:
        ShapeError: If pictures of this size are not supported.

    Example:
        >>> DCGANGenerator(100, (3, 64, 64))(torch.randn(2, 100)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        latent_dim: int,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 64,
        block: BlockRef = "conv_transpose_bn_relu",
        output_activation: OutputActivation = "tanh",
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(latent_dim, sample_shape, num_classes)
        check_count("hidden_dim", hidden_dim)
        times, base = halvings(sample_shape)
        channels = [hidden_dim * 2**i for i in reversed(range(times))]
        self.network: nn.Sequential = nn.Sequential(
            nn.Unflatten(1, (self.input_dim, 1, 1)),
            nn.Sequential(
                nn.ConvTranspose2d(self.input_dim, channels[0], base, bias=False, device=device, dtype=dtype),
                nn.BatchNorm2d(channels[0], device=device, dtype=dtype),
                nn.ReLU(inplace=True),
            ),
            *build_blocks(block, channels, device, dtype),
            nn.ConvTranspose2d(channels[-1], self.sample_shape[0], 4, 2, 1, device=device, dtype=dtype),
            *output_layers(output_activation),
        )
        initialise(self.network)


@DISCRIMINATORS.register("dcgan")
class DCGANDiscriminator(Discriminator):
    """Strided convolutions that halve the picture (Radford et al. 2015, section 3).

    Formula: a convolution with LeakyReLU(0.2) and without BatchNorm; blocks, each of which halves the map and doubles
    its channels; a last convolution to one logit. For 28 pixels:
    `1 x 28 x 28 -> 64 x 14 x 14 -> 128 x 7 x 7 -> 1`.

    Args:
        sample_shape: `(C, S, S)`, where S is 4, 5, 6 or 7 times 2, 4, 8, ..., such as 28.
        hidden_dim: The number of channels after the first layer. Each later layer has twice as many as the one before.
        block: A name in `BLOCKS`, a `Spec`, or a function of two channel numbers; it must halve the picture.
        spectral_norm: Divide every weight by its largest singular value (Miyato et al. 2018).
        minibatch_std: Give the last layer the standard deviation of the batch as a feature (Karras et al. 2017).
        num_classes: The number of classes of a conditional discriminator, which is called as `forward(x, labels)` and
            gets one more plane per class. None for an unconditional one.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Raises:
        ShapeError: If pictures of this size are not supported.

    Example:
        >>> DCGANDiscriminator((1, 28, 28))(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 64,
        block: BlockRef = "conv_bn_leaky_relu",
        spectral_norm: bool = False,
        minibatch_std: bool = False,
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(sample_shape, num_classes)
        check_count("hidden_dim", hidden_dim)
        times, base = halvings(sample_shape)
        channels = [hidden_dim * 2**i for i in range(times)]
        inputs = self.sample_shape[0] + (num_classes or 0)
        self.network: nn.Sequential = nn.Sequential(
            nn.Sequential(nn.Conv2d(inputs, channels[0], 4, 2, 1, device=device, dtype=dtype), nn.LeakyReLU(0.2)),
            *build_blocks(block, channels, device, dtype),
            *([MinibatchStandardDeviation()] if minibatch_std else []),
            nn.Conv2d(channels[-1] + minibatch_std, 1, base, device=device, dtype=dtype),
        )
        initialise(self.network)
        if spectral_norm:
            normalise_spectrally(self.network)

    @override
    def prepare(self, x: Tensor, code: Tensor | None) -> Tensor:
        """Append the code of the label to the picture as constant planes."""
        return append_planes(x, code)
