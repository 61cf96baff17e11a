"""The multi-scale discriminator of waveforms, of MelGAN and HiFi-GAN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Features
from gankit.architectures.base import PositionalDiscriminator
from gankit.architectures.block_stacks import given_options
from gankit.architectures.layers import normalise_spectrally, normalise_weights
from gankit.architectures.multi_period import MultiPeriodDiscriminator, judged_layer_by_layer
from gankit.architectures.published import load_published
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadValueError, check_count

_GROUPS = 16


@DISCRIMINATORS.register("multi_scale_waveform")
class MultiScaleWaveformDiscriminator(PositionalDiscriminator):
    """One head per scale of a waveform, which is averaged and halved in between (Kong et al. 2020, HiFi-GAN, sec. 2.3).

    Kumar et al. 2019 (MelGAN) introduced it; this is the network of HiFi-GAN.

    Formula: for each scale, convolutions with kernels of 15, 41, 41, 41, 41, 41 and 5 values, strides of 1, 2, 2, 4, 4,
    1 and 1, in 1, 4, 16, 16, 16, 16 and 1 groups, to `hidden_dim * (1, 1, 2, 4, 8, 8, 8)` channels, each with
    LeakyReLU(0.1); a last one over 3 values gives the logits. The first scale sees the waveform itself and has spectral
    normalisation (Miyato et al. 2018); each further one sees the mean of 4 values at every second place, with 2 zeros
    before and after the waveform, and has weight normalisation (Salimans & Kingma 2016). One channel and the defaults
    give 29,618,821 parameters.

    Args:
        sample_shape: `(C, T)`. Other lengths do as well.
        scales: The number of scales.
        hidden_dim: The number of channels after the first convolution, a multiple of 16.
        features: Whether to return features as well, from the same forward pass: for each head the output of each
            LeakyReLU, and the logits before they are flattened, as in the published code.
        num_classes: The number of classes of a conditional discriminator, which gets one more channel per class. None
            for one without labels.
        condition_channels: The number of channels of a condition as long as the waveform, which is joined to it as
            further channels. None for one without such a condition.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        discriminators: For each scale its convolutions.
        pool: The mean that halves the waveform.
        minimum_size: The smallest length.

    Raises:
        BadArgumentsError: If both `num_classes` and `condition_channels` are given, or a condition is missing or not
            expected.
        BadValueError: If a number is too small, or `hidden_dim` is not a multiple of 16.
        ShapeError: If waveforms or conditions have another shape.

    Example:
        >>> D = MultiScaleWaveformDiscriminator((1, 256), hidden_dim=16)
        >>> [tuple(head.shape) for head in D(torch.randn(4, 1, 256)).heads]
        [(4, 4), (4, 3), (4, 2)]
    """

    kind: str = "multi_scale_waveform"

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        scales: int = 3,
        hidden_dim: int = 128,
        features: bool = True,
        num_classes: int | None = None,
        condition_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("scales", scales)
        check_count("hidden_dim", hidden_dim)
        if hidden_dim % _GROUPS:
            raise BadValueError(
                f"hidden_dim must be a multiple of {_GROUPS}, the number of groups of convolutions, got {hidden_dim}"
            )
        super().__init__(
            sample_shape,
            dimensions=1,
            num_classes=num_classes,
            condition_channels=condition_channels,
            features=features,
        )
        self.minimum_size: int = 1
        self.check_size(self.sample_shape)
        self.discriminators: nn.ModuleList = nn.ModuleList(
            [_convolutions(self.input_channels, hidden_dim, device, dtype) for _ in range(scales)]
        )
        for scale, layers in enumerate(self.discriminators):
            (normalise_weights if scale else normalise_spectrally)(layers)
        self.pool: nn.AvgPool1d = nn.AvgPool1d(4, stride=2, padding=2)

    @override
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits of each scale, `(N, positions)`, and its features."""
        heads: list[Tensor] = []
        features: list[list[Tensor]] = []
        for scale, layers in enumerate(self.discriminators):
            if scale:
                x = self.pool(x)
            outputs = judged_layer_by_layer(layers, x)
            heads.append(outputs[-1].flatten(1))
            features.append(outputs)
        return tuple(heads), features


def _convolutions(
    channels: int, hidden_dim: int, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.ModuleList:
    factory = given_options(device, dtype)
    widths = [channels, *(hidden_dim * factor for factor in (1, 1, 2, 4, 8, 8, 8))]
    kernels, strides, groups = (15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1), (1, 4, 16, 16, 16, 16, 1)
    return nn.ModuleList(
        [
            *(
                nn.Conv1d(before, after, kernel, stride, kernel // 2, groups=group, **factory)
                for (before, after), kernel, stride, group in zip(
                    pairwise(widths), kernels, strides, groups, strict=True
                )
            ),
            nn.Conv1d(widths[-1], 1, 3, padding=1, **factory),
        ]
    )


def load_hifi_gan_state_dict(
    network: MultiPeriodDiscriminator | MultiScaleWaveformDiscriminator, state_dict: Mapping[str, Tensor]
) -> None:
    """Load the weights of one of HiFi-GAN's discriminators into `multi_period` or `multi_scale_waveform`.

    The files `do_*` published with HiFi-GAN (https://github.com/jik876/hifi-gan, MIT) hold them under the keys `mpd`
    and `msd`.

    Args:
        network: The discriminator that gets the weights.
        state_dict: The published weights, with keys `discriminators.0.convs.0.weight_g`, ...

    Raises:
        BadArgumentsError: If the weights do not fit the network.
    """
    owners: dict[str, str] = {}
    for index, layers in enumerate(network.discriminators):
        name, last = f"discriminators.{index}", len(list(layers.children())) - 1
        owners |= {f"{name}.convs.{layer}": f"{name}.{layer}" for layer in range(last)}
        owners[f"{name}.conv_post"] = f"{name}.{last}"
    load_published(network, state_dict, owners, "HiFi-GAN's")
