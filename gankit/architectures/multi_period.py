"""The multi-period discriminator of HiFi-GAN."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Features
from gankit.architectures.base import PositionalDiscriminator
from gankit.architectures.block_stacks import given_options
from gankit.architectures.layers import normalise_weights
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadValueError, check_count


@DISCRIMINATORS.register("multi_period")
class MultiPeriodDiscriminator(PositionalDiscriminator):
    """One head per period p, which sees every p-th value of a waveform (Kong et al. 2020, HiFi-GAN, section 2.3).

    Formula: for a period p, the waveform `(C, T)` is extended by reflection to a multiple of p and becomes a picture
    `(C, T / p, p)`. Convolutions that look along the first axis alone, 5 values at a time, follow: four with a stride
    of 3 to `hidden_dim * (1, 4, 16, 32)` channels, one with a stride of 1 that keeps them, each with LeakyReLU(0.1);
    a last one over 3 values gives the logits. All have weight normalisation (Salimans & Kingma 2016) and biases. Each
    period has weights of its own. One channel and the defaults give 41,105,770 parameters.

    Args:
        sample_shape: `(C, T)`. Other lengths do as well.
        periods: The periods, which should be different primes so that their views overlap little.
        hidden_dim: The number of channels after the first convolution.
        features: Whether to return features as well, from the same forward pass: for each head the output of each
            LeakyReLU, and the logits before they are flattened, as in the published code.
        num_classes: The number of classes of a conditional discriminator, which gets one more channel per class. None
            for one without labels.
        condition_channels: The number of channels of a condition as long as the waveform, which is joined to it as
            further channels. None for one without such a condition.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        discriminators: For each period its convolutions.
        periods: The periods.
        minimum_size: The smallest length, the largest period.

    Raises:
        BadArgumentsError: If both `num_classes` and `condition_channels` are given, or a condition is missing or not
            expected.
        BadValueError: If a number is too small, or there are no periods.
        ShapeError: If waveforms or conditions have another shape, or are shorter than `minimum_size`.

    Example:
        >>> D = MultiPeriodDiscriminator((1, 256), hidden_dim=2)
        >>> [tuple(head.shape) for head in D(torch.randn(4, 1, 256)).heads]
        [(4, 4), (4, 6), (4, 5), (4, 7), (4, 11)]
    """

    kind: str = "multi_period"

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        hidden_dim: int = 32,
        features: bool = True,
        num_classes: int | None = None,
        condition_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("hidden_dim", hidden_dim)
        if not periods:
            raise BadValueError(f"periods must be one or more numbers, got {periods}")
        for period in periods:
            check_count("periods", period)
        super().__init__(
            sample_shape,
            dimensions=1,
            num_classes=num_classes,
            condition_channels=condition_channels,
            features=features,
        )
        self.periods: tuple[int, ...] = tuple(periods)
        self.minimum_size: int = max(self.periods)
        self.check_size(self.sample_shape)
        self.discriminators: nn.ModuleList = nn.ModuleList(
            [_convolutions(self.input_channels, hidden_dim, device, dtype) for _ in self.periods]
        )
        normalise_weights(self.discriminators)

    @override
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits of each period, `(N, positions)`, and its features."""
        heads: list[Tensor] = []
        features: list[list[Tensor]] = []
        for period, layers in zip(self.periods, self.discriminators, strict=True):
            extended = F.pad(x, (0, -x.shape[-1] % period), mode="reflect")
            picture = extended.view(*x.shape[:2], extended.shape[-1] // period, period)
            outputs = judged_layer_by_layer(layers, picture)
            heads.append(outputs[-1].flatten(1))
            features.append(outputs)
        return tuple(heads), features


def _convolutions(
    channels: int, hidden_dim: int, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.ModuleList:
    factory = given_options(device, dtype)
    widths = [channels, *(hidden_dim * factor for factor in (1, 4, 16, 32, 32))]
    return nn.ModuleList(
        [
            *(
                nn.Conv2d(before, after, (5, 1), (stride, 1), (2, 0), **factory)
                for (before, after), stride in zip(pairwise(widths), (3, 3, 3, 3, 1), strict=True)
            ),
            nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0), **factory),
        ]
    )


def judged_layer_by_layer(layers: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output of each convolution after its LeakyReLU(0.1), and that of the last one, which has none.

    Example:
        >>> [one.item() for one in judged_layer_by_layer(nn.ModuleList([nn.Identity(), nn.Identity()]), -torch.ones(1))]
        [-0.10000000149011612, -0.10000000149011612]
    """
    outputs: list[Tensor] = []
    *hidden, last = layers.children()
    for layer in hidden:
        x = F.leaky_relu(layer(x), 0.1)
        outputs.append(x)
    return [*outputs, last(x)]
