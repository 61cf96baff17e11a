"""A U-Net that judges every pixel of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Features
from gankit.architectures.base import PositionalDiscriminator
from gankit.architectures.block_stacks import given_options
from gankit.architectures.layers import normalise_spectrally
from gankit.architectures.published import load_published
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import check_count


@DISCRIMINATORS.register("unet")
class UNetDiscriminator(PositionalDiscriminator):
    """A U-Net with spectral normalisation and one logit per pixel (Wang et al. 2021, Real-ESRGAN, section 3.3).

    Schönfeld et al. 2020 introduced U-Nets as discriminators; this is the network of Real-ESRGAN, which has no logit
    for the whole picture.

    Formula: a 3x3 convolution; `depth` 4x4 convolutions with stride 2, which double the channels; then `depth` times a
    bilinear upsampling to the size of the encoder's output before, a 3x3 convolution that halves the channels, and the
    addition of that output; two 3x3 convolutions, and a last one to one logit per pixel. LeakyReLU(0.2) follows each
    convolution but the last. All weights but those of the first and the last convolution are divided by their largest
    singular value (Miyato et al. 2018). For 128 pixels: `3 x 128 -> 64 x 128 -> 128 x 64 -> 256 x 32 -> 512 x 16 ->
    256 x 32 -> 128 x 64 -> 64 x 128 -> 64 x 128 -> 64 x 128 -> 1 x 128`.

    The network takes pictures of any height and width from `2 ** depth` on; in multiples of that, it computes what the
    published code does. 3 channels and the defaults give 4,376,897 parameters.

    Args:
        sample_shape: `(C, H, W)`.
        hidden_dim: The number of channels after the first convolution.
        depth: The number of times the picture is halved.
        skip_connections: Whether the encoder's outputs are added to the decoder's.
        features: Whether to return an `Answer` with the output of each LeakyReLU (before a skip is added) as its
            features, from the same forward pass.
        num_classes: The number of classes of a conditional discriminator, which gets one more plane per class. None
            for one without labels.
        condition_channels: The number of channels of a condition that is a picture, as large as the sample; it is
            joined to the sample as further channels. None for one without such a condition.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        encoder: The convolutions of the encoder.
        decoder: Those of the decoder.
        last: The convolutions after it.
        minimum_size: The smallest height and width.

    Raises:
        BadArgumentsError: If both `num_classes` and `condition_channels` are given, or a condition is missing or not
            expected.
        BadValueError: If a number is too small.
        ShapeError: If pictures or conditions have another shape, or pictures are smaller than `minimum_size`.

    Example:
        >>> D = UNetDiscriminator((3, 64, 64), hidden_dim=8)
        >>> answer = D(torch.rand(2, 3, 45, 70))
        >>> answer.heads[0].shape, len(answer.features)
        (torch.Size([2, 1, 45, 70]), 9)
    """

    kind: str = "unet"

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 64,
        depth: int = 3,
        skip_connections: bool = True,
        features: bool = True,
        num_classes: int | None = None,
        condition_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("hidden_dim", hidden_dim)
        check_count("depth", depth)
        super().__init__(
            sample_shape,
            dimensions=2,
            num_classes=num_classes,
            condition_channels=condition_channels,
            features=features,
        )
        self.minimum_sizes: Sequence[int] = [2**one for one in range(1, depth + 1)]
        self.minimum_size: int = self.minimum_sizes[-1]
        self.check_size(self.sample_shape)
        self.skip_connections = skip_connections
        factory = given_options(device, dtype)
        convolution = partial(nn.Conv2d, kernel_size=3, padding=1, **factory)
        widths = [hidden_dim * 2**level for level in range(depth + 1)]
        down = [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False, **factory) for width in widths[:-1]]
        up = [convolution(2 * width, width, bias=False) for width in reversed(widths[:-1])]
        extra = [convolution(hidden_dim, hidden_dim, bias=False) for _ in range(2)]
        normalise_spectrally(nn.ModuleList([*down, *up, *extra]))
        self.encoder: nn.ModuleList = nn.ModuleList([convolution(self.input_channels, hidden_dim), *down])
        self.decoder: nn.ModuleList = nn.ModuleList(up)
        self.last: nn.ModuleList = nn.ModuleList([*extra, convolution(hidden_dim, 1)])

    @override
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits `(N, 1, H, W)` and the output of each LeakyReLU."""
        encoded: list[Tensor] = []
        for layer in self.encoder:
            x = F.leaky_relu(layer(x), 0.2)
            encoded.append(x)
        features = list(encoded)
        for layer, skip in zip(self.decoder, reversed(encoded[:-1]), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
            if self.skip_connections:
                x = x + skip
        *extra, last = self.last
        for layer in extra:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return (last(x),), features


def load_real_esrgan_state_dict(network: UNetDiscriminator, state_dict: Mapping[str, Tensor]) -> None:
    """Load the weights of Real-ESRGAN's discriminator, whose layers are called `conv0` to `conv9`.

    The files published with Real-ESRGAN (https://github.com/xinntao/Real-ESRGAN, BSD 3-Clause) hold them under the key
    `params`.

    Args:
        network: The discriminator that gets the weights, built with a depth of 3.
        state_dict: The published weights, with keys `conv0.weight`, `conv1.weight_orig`, ...

    Raises:
        BadArgumentsError: If the weights do not fit the network.
    """
    own = [f"{part}.{index}" for part in ("encoder", "decoder", "last") for index in range(len(getattr(network, part)))]
    load_published(network, state_dict, {f"conv{index}": name for index, name in enumerate(own)}, "Real-ESRGAN's")
