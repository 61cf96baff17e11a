"""A wrapper around any discriminator of pictures that judges them at several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gankit.answers import Answer, Features, Judgements
from gankit.architectures.base import checked_shape
from gankit.architectures.block_stacks import given_options
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import ShapeError, check_count
from gankit.protocols import batch_multiple_of
from gankit.registry import Spec


@DISCRIMINATORS.register("multi_scale")
class MultiScaleDiscriminator(nn.Module):
    """Several discriminators, each of which sees the picture at half the size of the one before (Wang et al. 2018).

    Formula: `D_1(x), D_2(pool(x)), D_3(pool(pool(x)))`, where `pool` averages windows of 3x3 pixels with stride 2 and
    leaves the padding of 1 out of the average (pix2pixHD, section 3.2). The discriminators have the same architecture
    and weights of their own. The coarsest sees the most of the picture, the finest its details.

    Args:
        sample_shape: `(C, H, W)`.
        scales: The number of discriminators.
        discriminator: A name in `DISCRIMINATORS`, a `Spec`, or a function of `sample_shape=`; it is built for each
            size, which is rounded up: 28, 14, 7, 4 pixels. The default is made for pictures from 93 pixels on; three
            scales of 28 pixels need `Spec("patch", depth=1)`.
        num_classes: The number of classes, which all discriminators are built with. None for ones without labels.
        device: The device on which the weights are created.
        dtype: The data type of the weights.

    Attributes:
        discriminators: The discriminators, from the full size to the smallest.
        batch_multiple: The number of which every batch size must be a multiple, because of the discriminators.

    Raises:
        BadValueError: If `scales` is less than 1.
        ShapeError: If samples are not pictures, there are more scales than sizes, a discriminator does not fit its
            size, or does not return judgements.

    Example:
        >>> D = MultiScaleDiscriminator((1, 28, 28), scales=2, discriminator=Spec("patch", depth=2, features=True))
        >>> answer = D(torch.rand(4, 1, 28, 28))
        >>> [tuple(head.shape) for head in answer.heads]
        [(4, 1, 5, 5), (4, 1, 1, 1)]
        >>> [len(features) for features in answer.features]
        [3, 3]
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        scales: int = 3,
        discriminator: str | Spec | Callable[..., nn.Module] = "patch",
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("scales", scales)
        super().__init__()
        self.sample_shape: tuple[int, ...] = checked_shape(sample_shape)
        if len(self.sample_shape) != 3:
            raise ShapeError(f"multi_scale needs pictures (C, H, W), got sample_shape={self.sample_shape}")
        channels, height, width = self.sample_shape
        most = (max(height, width) - 1).bit_length() + 1
        if scales > most:
            raise ShapeError(
                f"multi_scale must have at most {most} scales for sample_shape={self.sample_shape}, got {scales}"
            )
        given: dict[str, Any] = given_options(device, dtype)
        if num_classes is not None:
            given["num_classes"] = num_classes
        # the size is halved and rounded up
        shapes = [(channels, -(-height // 2**scale), -(-width // 2**scale)) for scale in range(scales)]
        build = partial(DISCRIMINATORS.build, discriminator, **given)
        try:
            self.discriminators: nn.ModuleList = nn.ModuleList([build(sample_shape=shape) for shape in shapes])
        except ShapeError as error:
            raise ShapeError(
                f"multi_scale with scales={scales} shows its discriminators pictures of "
                f"{', '.join(map(str, shapes))}: {_reason(partial(build, sample_shape=shapes[-1]), error)}"
                + (", and fewer scales need less" if scales > 1 else "")
            ) from error
        self.batch_multiple: int = batch_multiple_of(self.discriminators[0])
        self.pool: nn.AvgPool2d = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Answer:
        """Return the heads of all discriminators, and their features if they return some.

        Args:
            x: Pictures `(N, C, H, W)`.
            condition: Labels, or pictures `(N, C2, H, W)`, which are made smaller together with `x`; or None.

        Returns:
            The heads of each discriminator one after the other, from the full size to the smallest. The features are
            lists of tensors in the same order.
        """
        heads: list[Tensor] = []
        features: list[Sequence[Tensor]] = []
        is_picture = condition is not None and condition.ndim == 4
        for index, discriminator in enumerate(self.discriminators):
            if index:
                x = self.pool(x)
                if condition is not None and is_picture:
                    condition = self.pool(condition.to(x.dtype))
            returned = discriminator(x) if condition is None else discriminator(x, condition)
            answer = Judgements(returned, x.shape[:1]).answer  # which refuses what is no judgement
            heads += answer.heads
            features += _by_head(answer.features)
        return Answer(tuple(heads), features or None)


def _reason(build_smallest: Callable[[], nn.Module], first: ShapeError) -> ShapeError:
    """Return why the discriminator of the smallest size cannot be built, or the first error if it can."""
    try:
        build_smallest()
    except ShapeError as error:
        return error
    return first


def _by_head(features: Features | None) -> list[Sequence[Tensor]]:
    """Return the features of a discriminator as lists of tensors, one for each head that has a list of its own.

    Example:
        >>> x = torch.zeros(1)
        >>> _by_head(None), _by_head(x), len(_by_head([x, x])), len(_by_head([[x], [x]]))
        ([], [[tensor([0.])]], 1, 2)
    """
    if features is None:
        return []
    if isinstance(features, Tensor):
        return [[features]]
    layers = [one for one in features if isinstance(one, Tensor)]
    return [layers] if layers else [one for one in features if not isinstance(one, Tensor)]
