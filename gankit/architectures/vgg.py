"""The discriminator of SRGAN and ESRGAN, in the style of VGG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Features
from gankit.architectures.base import PositionalDiscriminator, outputs_of
from gankit.architectures.block_stacks import given_options
from gankit.architectures.published import load_published
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import ShapeError, check_count


@DISCRIMINATORS.register("vgg")
class VGGDiscriminator(PositionalDiscriminator):
    """One logit per picture from a network in the style of VGG (Ledig et al. 2017, SRGAN, fig. 4; Wang et al. 2018).

    Formula: `depth` stages, each of a 3x3 convolution and a 4x4 convolution with stride 2; the number of channels
    doubles with each stage up to 8 times `hidden_dim`. BatchNorm follows each convolution but the first, which has a
    bias instead, and LeakyReLU(0.2) follows each. Then a linear layer to 100 numbers, LeakyReLU(0.2), and a linear
    layer to one logit. The layers are those of ESRGAN's published code (BasicSR); SRGAN has 3x3 kernels with stride 2
    and 1,024 numbers. 3 channels of 128 pixels and the defaults give 14,499,401 parameters.

    The linear layer fixes the size of the pictures. BatchNorm joins the samples of a batch, so concatenated passes
    refuse it, and gradient penalties should not be used with it.

    Args:
        sample_shape: `(C, H, W)`; the published networks take 128 x 128 pixels, or 256 x 256 with a depth of 6.
        hidden_dim: The number of channels of the first stage.
        depth: The number of stages, each of which halves the picture and rounds down.
        features: Whether to return an `Answer` with the output of each LeakyReLU as its features, from the same
            forward pass.
        num_classes: The number of classes of a conditional discriminator, which gets one more plane per class. None
            for one without labels.
        condition_channels: The number of channels of a condition that is a picture, as large as the sample; it is
            joined to the sample as further channels. None for one without such a condition.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        network: The inner network, from pictures to logits.
        minimum_size: The smallest height and width.

    Raises:
        BadArgumentsError: If both `num_classes` and `condition_channels` are given, or a condition is missing or not
            expected.
        BadValueError: If a number is too small.
        ShapeError: If pictures or conditions have another shape, or `sample_shape` is smaller than `minimum_size`.

    Example:
        >>> answer = VGGDiscriminator((3, 64, 48), hidden_dim=8)(torch.rand(2, 3, 64, 48))
        >>> answer.heads[0].shape, len(answer.features)
        (torch.Size([2]), 11)
    """

    kind: str = "vgg"

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 64,
        depth: int = 5,
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
        factory = given_options(device, dtype)
        small = partial(nn.Conv2d, kernel_size=3, padding=1, **factory)
        halving = partial(nn.Conv2d, kernel_size=4, stride=2, padding=1, bias=False, **factory)
        widths = [hidden_dim * min(2**stage, 8) for stage in range(depth)]
        layers: list[nn.Module] = [nn.Sequential(small(self.input_channels, widths[0]), nn.LeakyReLU(0.2))]
        for stage, width in enumerate(widths):
            convolutions = [halving(width, width)]
            if stage:
                convolutions.insert(0, small(widths[stage - 1], width, bias=False))
            layers += [
                nn.Sequential(convolution, nn.BatchNorm2d(width, **factory), nn.LeakyReLU(0.2))
                for convolution in convolutions
            ]
        _, height, width = self.sample_shape
        pixels = (height // 2**depth) * (width // 2**depth)
        self.network: nn.Sequential = nn.Sequential(
            *layers,
            nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * pixels, 100, **factory), nn.LeakyReLU(0.2)),
            nn.Linear(100, 1, **factory),
        )

    @override
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits `(N,)` and the output of each LeakyReLU."""
        *features, logits = outputs_of(self.network, x)
        return (logits.squeeze(1),), features

    @override
    def check_size(self, shape: Sequence[int]) -> None:
        """Raise `ShapeError` unless the pictures have the size that the network was built for."""
        super().check_size(shape)
        if tuple(shape[-2:]) != self.sample_shape[1:]:
            wanted = ", ".join(["N", *map(str, self.sample_shape)])
            raise ShapeError(f"{type(self).__name__} needs samples of shape ({wanted}), got {tuple(shape)}")


def load_esrgan_state_dict(network: VGGDiscriminator, state_dict: Mapping[str, Tensor]) -> None:
    """Load the weights of a discriminator of BasicSR, whose layers are called `conv0_0`, `bn0_1`, ..., `linear2`.

    BasicSR (https://github.com/XPixelGroup/BasicSR, Apache 2.0) stores them under the key `params`.

    Args:
        network: The discriminator that gets the weights, built with the size of the published one.
        state_dict: The published weights.

    Raises:
        BadArgumentsError: If the weights do not fit the network.
    """
    owners: dict[str, str] = {}
    *stages, _, _ = network.network
    for index in range(len(stages)):
        name = f"{index // 2}_{index % 2}"
        owners |= {f"conv{name}": f"network.{index}.0", f"bn{name}": f"network.{index}.1"}
    owners |= {"linear1": f"network.{len(stages)}.1", "linear2": f"network.{len(stages) + 1}"}
    load_published(network, state_dict, owners, "BasicSR's")
