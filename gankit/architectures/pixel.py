"""PixelGAN: a discriminator that judges each pixel on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Features
from gankit.architectures.base import PositionalDiscriminator, outputs_of
from gankit.architectures.block_stacks import given_options
from gankit.architectures.dcgan import initialise
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadValueError, check_count

PixelNormalization = Literal["batch", "instance", "none"]


@DISCRIMINATORS.register("pixel")
class PixelDiscriminator(PositionalDiscriminator):
    """PixelGAN: one logit for each pixel, from that pixel alone (Isola et al. 2017, pix2pix, sections 4.4 and 6.1.2).

    Formula: a 1x1 convolution to `w = hidden_dim` channels and LeakyReLU(0.2); one to `2 w` channels, normalisation and
    LeakyReLU(0.2); one to a logit. It judges colours, not shapes. Initial weights are those of `patch`. As in the
    published code, the convolutions after the first have no biases with BatchNorm, so C channels give
    `w C + w + 2 w^2 + 4 w + 2 w` parameters with BatchNorm, and `w C + w + 2 w^2 + 2 w + 2 w + 1` without.

    Args:
        sample_shape: `(C, H, W)`. Other heights and widths do as well.
        hidden_dim: The number of channels after the first convolution.
        normalization: `batch` for BatchNorm, `instance` for InstanceNorm without a scale, or `none`. The first two look
            at all pixels in train mode. BatchNorm joins the samples of a batch, so gradient penalties should not be
            used with it.
        features: Whether to return an `Answer` with the output of each LeakyReLU as its features, from the same
            forward pass.
        num_classes: The number of classes of a conditional discriminator, which gets one more plane per class. None
            for one without labels.
        condition_channels: The number of channels of a condition that is a picture, as large as the sample; it is
            joined to the sample as further channels. None for one without such a condition.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        network: The inner network, from pictures to maps of logits.
        minimum_size: The smallest height and width.

    Raises:
        BadArgumentsError: If both `num_classes` and `condition_channels` are given, or a condition is missing or not
            expected.
        BadValueError: If a number is too small, or the normalisation is unknown.
        ShapeError: If pictures or conditions have another shape.

    Example:
        >>> answer = PixelDiscriminator((3, 64, 64), hidden_dim=8)(torch.rand(2, 3, 5, 7))
        >>> answer.heads[0].shape, [one.shape[1] for one in answer.features]
        (torch.Size([2, 1, 5, 7]), [8, 16])
    """

    kind: str = "pixel"

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 64,
        normalization: PixelNormalization = "batch",
        features: bool = True,
        num_classes: int | None = None,
        condition_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("hidden_dim", hidden_dim)
        if normalization not in get_args(PixelNormalization):
            choices = ", ".join(get_args(PixelNormalization))
            raise BadValueError(f"normalization must be one of {choices}, got {normalization!r}")
        super().__init__(
            sample_shape,
            dimensions=2,
            num_classes=num_classes,
            condition_channels=condition_channels,
            features=features,
        )
        # InstanceNorm of one pixel would be zero
        self.minimum_size: int = 2 if normalization == "instance" else 1
        self.check_size(self.sample_shape)
        factory = given_options(device, dtype)
        wide, bias = 2 * hidden_dim, normalization != "batch"
        statistics: dict[str, list[nn.Module]] = {
            "batch": [nn.BatchNorm2d(wide, **factory)],
            "instance": [nn.InstanceNorm2d(wide)],
            "none": [],
        }
        self.network: nn.Sequential = nn.Sequential(
            nn.Sequential(nn.Conv2d(self.input_channels, hidden_dim, 1, **factory), nn.LeakyReLU(0.2)),
            nn.Sequential(
                nn.Conv2d(hidden_dim, wide, 1, bias=bias, **factory), *statistics[normalization], nn.LeakyReLU(0.2)
            ),
            nn.Conv2d(wide, 1, 1, bias=bias, **factory),
        )
        initialise(self.network)
        for layer in self.network.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    @override
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits `(N, 1, H, W)` and the output of each LeakyReLU."""
        *features, logits = outputs_of(self.network, x)
        return (logits,), features
