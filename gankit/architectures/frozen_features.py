"""A discriminator that judges the features of a frozen network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from gankit.answers import Answer
from gankit.architectures.base import append_planes, checked_shape, one_hot
from gankit.architectures.block_stacks import given_options
from gankit.architectures.layers import normalise_spectrally
from gankit.architectures.registry import DISCRIMINATORS
from gankit.errors import BadArgumentsError, BadValueError, ShapeError, check_count


@DISCRIMINATORS.register("frozen_features")
class FrozenFeaturesDiscriminator(nn.Module):
    """Heads with spectral normalisation on the features of a frozen network (Sauer et al. 2021, section 3).

    Formula: the picture is shifted and scaled, `(x - mean) / std`, resized where `size` is given, and passed through
    `network`, whose weights do not learn. Each map of features `(N, C, H, W)` has a head: a convolution of
    `kernel_size` to `hidden_dim` channels, LeakyReLU(0.2), and a 1x1 convolution to one logit per position. Tokens of a
    transformer, `(N, L, C)`, have heads of one dimension, and features `(N, C)` linear ones. All weights of the heads
    are divided by their largest singular value (Miyato et al. 2018). Sauer et al. mix the features of several layers by
    fixed random convolutions before that; this network leaves that to a `network` of your own.

    The frozen network is not part of the `state_dict` and of `parameters()`, so an optimizer and a checkpoint leave it
    out. It stays in eval mode, moves with the module, and lets the gradient through to the picture. It must not use the
    samples of a batch together.

    Args:
        sample_shape: `(C, H, W)`.
        network: The frozen network: from pictures to a tensor of features, or a list, a tuple or a mapping of them,
            such as torchvision's `create_feature_extractor` or timm's `features_only=True` give. Its weights are
            frozen.
        layers: The keys or numbers of the features to judge. None judges all of them.
        mean: What is subtracted from each channel of the picture. None subtracts nothing.
        std: What each channel is then divided by. None divides by nothing.
        size: The height and width to which pictures are resized for the network, bilinearly and with anti-aliasing.
            None keeps their size.
        hidden_dim: The number of channels of each head.
        kernel_size: The side of a head's first kernel, odd.
        features: Whether to return the frozen features as well, so that `layer_matching` is a perceptual distance
            without another pass.
        num_classes: The number of classes of a conditional discriminator, whose heads get one more channel per class.
            None for one without labels.
        device: The device on which the weights are created, and to which the frozen network is moved.
        dtype: The data type of the weights, to which the frozen network is converted.

    Attributes:
        heads: The heads, one for each of the features.
        network: The frozen network.

    Raises:
        BadArgumentsError: If `network` returns no features, or `layers` names others.
        BadValueError: If a number is too small, `kernel_size` is even, or `mean` or `std` does not fit the channels.
        ShapeError: If pictures have another shape, or features have more than four dimensions.

    Example:
        >>> layers = nn.ModuleList([nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 16, 3, stride=2)])
        >>> class Pyramid(nn.Module):
        ...     def forward(self, x):
        ...         first = layers[0](x).relu()
        ...         return [first, layers[1](first)]
        >>> D = FrozenFeaturesDiscriminator((3, 32, 32), network=Pyramid(), hidden_dim=4)
        >>> [tuple(head.shape) for head in D(torch.rand(2, 3, 32, 32)).heads]
        [(2, 1, 15, 15), (2, 1, 7, 7)]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        sample_shape: Sequence[int],
        *,
        network: Callable[..., Any],
        layers: Sequence[int | str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: tuple[int, int] | None = None,
        hidden_dim: int = 64,
        kernel_size: int = 3,
        features: bool = True,
        num_classes: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("hidden_dim", hidden_dim)
        check_count("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise BadValueError(
                f"kernel_size must be odd, so that heads keep the size of the features, got {kernel_size}"
            )
        if num_classes is not None:
            check_count("num_classes", num_classes)
        if not isinstance(network, nn.Module):
            raise BadArgumentsError(f"network must be a torch.nn.Module, got {type(network).__name__}")
        super().__init__()
        self.sample_shape: tuple[int, ...] = checked_shape(sample_shape)
        if len(self.sample_shape) != 3:
            raise ShapeError(f"frozen_features needs pictures (C, H, W), got sample_shape={self.sample_shape}")
        for name, numbers in (("mean", mean), ("std", std)):
            if numbers is not None and len(numbers) not in (1, self.sample_shape[0]):
                raise BadValueError(
                    f"{name} must be one number for each of the {self.sample_shape[0]} channels, got {len(numbers)}"
                )
            for number in numbers or ():
                if not math.isfinite(number) or (name == "std" and number <= 0):
                    sign = " above 0" if name == "std" else ""
                    raise BadValueError(f"{name} must be finite numbers{sign}, got {tuple(numbers or ())}")
        if size is not None:
            for side in size:
                check_count("size", side)
        self.layers: tuple[int | str, ...] | None = None if layers is None else tuple(layers)
        self.size: tuple[int, int] | None = size
        self.num_classes = num_classes
        self.returns_features = features
        factory = given_options(device, dtype)
        for name, numbers, default in (("mean", mean, 0.0), ("std", std, 1.0)):
            tensor = torch.tensor([default] if numbers is None else list(numbers), **factory)
            self.register_buffer(name, tensor.view(-1, 1, 1), persistent=False)
        self._changes_range = mean is not None or std is not None
        # in a tuple, where torch does not look for modules: neither parameters() nor the state_dict holds it
        self._frozen: tuple[nn.Module] = (network.to(**factory) if factory else network,)
        network.requires_grad_(False)
        network.eval()
        with torch.no_grad():
            some = torch.zeros(2, *self.sample_shape, **_place_of(network, factory))
            found = self._features(some)
        self.heads: nn.ModuleList = nn.ModuleList(
            [_head(one, hidden_dim, kernel_size, num_classes or 0, factory) for one in found]
        )
        normalise_spectrally(self.heads)

    @property
    def network(self) -> nn.Module:
        """The frozen network."""
        return self._frozen[0]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Answer:
        """Return one head of judgements for each of the features, and the features.

        Args:
            x: Pictures `(N, C, H, W)`.
            condition: Labels `(N,)`, or None.
        """
        if x.ndim != 4 or x.shape[1] != self.sample_shape[0]:
            raise ShapeError(
                f"{type(self).__name__} needs samples of shape (N, {self.sample_shape[0]}, H, W), got {tuple(x.shape)}"
            )
        code = one_hot(self, condition, self.num_classes, x)
        found = self._features(x)
        heads = [head(append_planes(_channels_second(one), code)) for head, one in zip(self.heads, found, strict=True)]
        return Answer(heads=tuple(heads), features=found if self.returns_features else None)

    def _features(self, x: Tensor) -> list[Tensor]:
        if self._changes_range:
            x = (x - self.mean.to(x.device)) / self.std.to(x.device)
        if self.size is not None:
            x = F.interpolate(x, size=self.size, mode="bilinear", antialias=True, align_corners=False)
        found = _listed(self.network(x), self.layers)
        for one in found:
            if not 2 <= one.ndim <= 4 or one.shape[:1] != x.shape[:1]:
                raise ShapeError(
                    "network must return features (N, C), (N, L, C) or (N, C, H, W) for pictures (N, ...), got "
                    f"{tuple(one.shape)} for {tuple(x.shape)}"
                )
        return found

    @override
    def train(self, mode: bool = True) -> Self:
        """Set the mode of the heads; the frozen network stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the frozen network together with the heads."""
        super()._apply(fn, recurse)  # pyright: ignore[reportUnknownMemberType]
        self.network._apply(fn)  # pyright: ignore[reportUnknownMemberType]
        return self


def _listed(returned: object, layers: Sequence[int | str] | None) -> list[Tensor]:
    """Return the features that a network has returned, as a list, or those that are asked for."""
    named: dict[int | str, object]
    if isinstance(returned, Tensor):
        named = {0: returned}
    elif isinstance(returned, Mapping):
        named = dict(cast("Mapping[int | str, object]", returned))
    else:
        several = isinstance(returned, (list, tuple))
        named = dict(enumerate(cast("Sequence[object]", returned))) if several else {}
    if layers is not None and (unknown := [one for one in layers if one not in named]):
        raise BadArgumentsError(
            f"layers must name features that the network returns, {', '.join(map(repr, named))}, got {unknown[0]!r}"
        )
    found = [named[one] for one in (named if layers is None else layers)]
    wrong = next((one for one in found if not isinstance(one, Tensor)), None)
    if not found or wrong is not None:
        kind = type(cast("object", returned) if wrong is None else wrong).__name__
        raise BadArgumentsError(f"network must return features: a tensor, or a list or mapping of tensors, got {kind}")
    return cast("list[Tensor]", found)


def _channels_second(x: Tensor) -> Tensor:
    return x.transpose(1, 2) if x.ndim == 3 else x


def _head(like: Tensor, hidden_dim: int, kernel_size: int, classes: int, factory: dict[str, Any]) -> nn.Sequential:
    inputs = _channels_second(like).shape[1] + classes
    if like.ndim == 2:
        return nn.Sequential(
            nn.Linear(inputs, hidden_dim, **factory), nn.LeakyReLU(0.2), nn.Linear(hidden_dim, 1, **factory)
        )
    kind = nn.Conv1d if like.ndim == 3 else nn.Conv2d
    return nn.Sequential(
        kind(inputs, hidden_dim, kernel_size, padding=kernel_size // 2, **factory),
        nn.LeakyReLU(0.2),
        kind(hidden_dim, 1, 1, **factory),
    )


def _place_of(network: nn.Module, factory: dict[str, Any]) -> dict[str, Any]:
    """Return the device and the type of the network's weights, or of new ones if it has none."""
    first = next(network.parameters(), None)
    return factory if first is None else {"device": first.device, "dtype": first.dtype}
