"""PatchGAN with anti-aliased downsampling, as recent image tokenizers use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Features
from gankit.architectures.base import PositionalDiscriminator, outputs_of
from gankit.architectures.block_stacks import given_options
from gankit.architectures.published import load_published
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadValueError, check_count


class BlurredHalving(nn.Module):
    """Blur each channel and keep every second pixel (Zhang 2019, section 3).

    Formula: a convolution with stride 2 of each channel with the outer product of the binomial coefficients
    `[1, 3, 3, 1]` for a kernel size of 4, divided by their sum. The picture is padded with zeros so that `n` pixels
    become `ceil(n / 2)`. If an odd number of zeros is needed, there is one more at the end.

    Args:
        kernel_size: The number of binomial coefficients, 2 or more.
        device: The device of the kernel.
        dtype: The data type of the kernel.

    Attributes:
        kernel: The kernel, a buffer outside the `state_dict`, `(1, 1, kernel_size, kernel_size)`.

    Raises:
        BadValueError: If `kernel_size` is less than 2.

    Example:
        >>> BlurredHalving(3)(torch.ones(1, 1, 5, 5))[0, 0, 1]
        tensor([0.7500, 1.0000, 0.7500])
    """

    kernel: Tensor

    def __init__(
        self, kernel_size: int = 4, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        check_count("kernel_size", kernel_size)
        if kernel_size < 2:
            raise BadValueError(f"kernel_size must be 2 or more, because stride 2 skips pixels, got {kernel_size}")
        super().__init__()
        row = [1]
        while len(row) < kernel_size:
            row = [a + b for a, b in zip([0, *row], [*row, 0], strict=True)]
        line = torch.tensor([float(one) for one in row], device=device, dtype=dtype)
        line = line / line.sum()
        # the same in every network, so it is not part of the state_dict
        self.register_buffer("kernel", (line[:, None] * line[None, :])[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return pictures `(N, C, ceil(H / 2), ceil(W / 2))` for pictures `(N, C, H, W)`."""
        paddings: list[int] = []
        for size in (x.shape[-1], x.shape[-2]):
            lacking = (size - 1) // 2 * 2 + self.kernel.shape[-1] - size
            paddings += [lacking // 2, lacking - lacking // 2]
        channels = x.shape[1]
        weight = self.kernel.expand(channels, -1, -1, -1)
        return F.conv2d(F.pad(x, paddings), weight, stride=2, groups=channels)


@DISCRIMINATORS.register("blur_patch")
class BlurPatchDiscriminator(PositionalDiscriminator):
    """PatchGAN with blurred downsampling, of the tokenizers TiTok (Yu et al. 2024) and MaskBit (Weber et al. 2024).

    Formula: a 5x5 convolution to `hidden_dim` channels and LeakyReLU(0.1); `depth` stages of a 3x3 convolution, blurred
    halving (Zhang 2019), GroupNorm and LeakyReLU(0.1), with `hidden_dim`, `2 hidden_dim`, `4 hidden_dim`, ... channels;
    the maximum over windows that leave `positions` x `positions`; a 1x1 convolution, LeakyReLU(0.1), and a 5x5
    convolution to one logit per position. All convolutions have biases and keep the size. The blur removes the
    frequencies that halving would fold into lower ones.

    3 channels and the defaults give 1,909,889 parameters, those of `NLayerDiscriminator()` in
    https://github.com/bytedance/1d-tokenizer (Apache 2.0), with which TiTok is trained.

    Args:
        sample_shape: `(C, H, W)`. Other heights and widths do as well.
        hidden_dim: The number of channels after the first convolution.
        depth: The number of times the picture is halved; an odd size is rounded up.
        kernel_size: The side of the blur's kernel, 2 or more.
        groups: The number of groups of GroupNorm, which divides `hidden_dim`.
        positions: The height and width of the map of logits. None leaves those of the last stage.
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
        BadValueError: If a number is too small, or `groups` does not divide `hidden_dim`.
        ShapeError: If pictures or conditions have another shape.

    Example:
        >>> D = BlurPatchDiscriminator((3, 64, 64), hidden_dim=8, groups=4, positions=None)
        >>> answer = D(torch.rand(2, 3, 45, 70))
        >>> answer.heads[0].shape, [one.shape[1] for one in answer.features]
        (torch.Size([2, 1, 6, 9]), [8, 8, 16, 32, 32])
    """

    kind: str = "blur_patch"

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        hidden_dim: int = 128,
        depth: int = 3,
        kernel_size: int = 4,
        groups: int = 32,
        positions: int | None = 16,
        features: bool = True,
        num_classes: int | None = None,
        condition_channels: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, number in (("hidden_dim", hidden_dim), ("depth", depth), ("groups", groups)):
            check_count(name, number)
        if positions is not None:
            check_count("positions", positions)
        if hidden_dim % groups:
            raise BadValueError(f"groups must divide hidden_dim, {hidden_dim}, got {groups}")
        super().__init__(
            sample_shape,
            dimensions=2,
            num_classes=num_classes,
            condition_channels=condition_channels,
            features=features,
        )
        self.minimum_size: int = 1
        self.check_size(self.sample_shape)
        factory: dict[str, Any] = given_options(device, dtype)
        widths = [hidden_dim, *(hidden_dim * 2**level for level in range(depth))]
        stages = [
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, **factory),
                BlurredHalving(kernel_size, **factory),
                nn.GroupNorm(groups, after, **factory),
                nn.LeakyReLU(0.1),
            )
            for before, after in pairwise(widths)
        ]
        last = widths[-1]
        pool: list[nn.Module] = [] if positions is None else [nn.AdaptiveMaxPool2d(positions)]
        self.network: nn.Sequential = nn.Sequential(
            nn.Sequential(nn.Conv2d(self.input_channels, hidden_dim, 5, padding=2, **factory), nn.LeakyReLU(0.1)),
            *stages,
            nn.Sequential(*pool, nn.Conv2d(last, last, 1, **factory), nn.LeakyReLU(0.1)),
            nn.Conv2d(last, 1, 5, padding=2, **factory),
        )

    @override
    def judge(self, x: Tensor) -> tuple[tuple[Tensor, ...], Features]:
        """Return the logits `(N, 1, H', W')` and the output of each LeakyReLU."""
        *features, logits = outputs_of(self.network, x)
        return (logits,), features


def load_titok_state_dict(network: BlurPatchDiscriminator, state_dict: Mapping[str, Tensor]) -> None:
    """Load the weights of a discriminator of TiTok's code, whose layers are called `block_in`, `blocks`, `to_logits`.

    Args:
        network: The discriminator that gets the weights, built with the sizes of the published one.
        state_dict: The published weights, with keys `block_in.0.weight`, `blocks.0.0.weight`, ... of the
            discriminator alone. The kernels of the blur are left out.

    Raises:
        BadArgumentsError: If the weights do not fit the network.
    """
    depth = len(network.network) - 3
    pooled = any(isinstance(layer, nn.AdaptiveMaxPool2d) for layer in network.network.modules())
    owners = {"block_in": "network.0", "to_logits.0": f"network.{depth + 1}.{int(pooled)}"}
    owners |= {f"blocks.{index}": f"network.{index + 1}" for index in range(depth)}
    owners |= {"to_logits.2": f"network.{depth + 2}"}
    load_published(network, state_dict, owners, "TiTok's", constants="kernel")
