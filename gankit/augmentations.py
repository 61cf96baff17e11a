"""Augmentations: random changes of pictures that keep what they show, by name in `AUGMENTATIONS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError, BadValueError, ShapeError
from gankit.registry import Registry, Spec


class Augmentation(Protocol):
    """A random change of samples, from `(..., *sample_shape)` to the same shape."""

    def __call__(self, x: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Return the changed samples. Each sample is changed independently, by draws from `generator`."""
        ...


AUGMENTATIONS = Registry[Augmentation]("augmentation", group="gankit.augmentations")
"""Augmentations, by name."""

# not written as a string: the registry evaluates it in the modules of the parts that use it, which may lack these names
AugmentationRef: TypeAlias = str | Spec | Callable[..., Tensor]


def build_augmentation(ref: AugmentationRef) -> Augmentation:
    """Build the augmentation that a name or a `Spec` refers to; return a callable as it is.

    Args:
        ref: A name in `AUGMENTATIONS`, a `Spec`, or any callable with the signature of `Augmentation`.

    Raises:
        UnknownNameError: If no augmentation has the given name.
        BadArgumentsError: If `ref` is none of these.

    Example:
        >>> build_augmentation(Spec("translation", fraction=0.25))
        Translation(fraction=0.25)
        >>> build_augmentation(lambda x, *, generator: -x)(torch.ones(1), generator=None)
        tensor([-1.])
    """
    if isinstance(ref, (str, Spec, type)):
        return AUGMENTATIONS.build(ref)
    if not callable(ref):  # pyright: ignore[reportUnnecessaryComparison]
        raise BadArgumentsError(f"augment must be a name, a Spec or a function of (x, *, generator), got {ref!r}")
    return cast(Augmentation, ref)


@AUGMENTATIONS.register("translation")
@dataclass(frozen=True)
class Translation:
    """Random shift of each picture, filled with the edge pixels (Zhang et al. 2020, section 3).

    Formula: `y[c, i, j] = x[c, i - a, j - b]`, where indices outside the picture are clamped to its edge, and a and b
    are uniform in -s .. s. The bound s is `fraction` times the height or width, rounded half up: 4 pixels of 28 or 32.

    Args:
        fraction: The largest shift, as a fraction of the picture's height or width.

    Raises:
        BadValueError: If `fraction` is outside [0, 1].
        ShapeError: If it is called with samples that are not pictures.

    Example:
        >>> x = torch.arange(16.0).view(1, 1, 4, 4)
        >>> Translation(0.25)(x, generator=torch.Generator().manual_seed(0))
        tensor([[[[ 1.,  2.,  3.,  3.],
                  [ 1.,  2.,  3.,  3.],
                  [ 5.,  6.,  7.,  7.],
                  [ 9., 10., 11., 11.]]]])
    """

    fraction: float = 0.125

    def __post_init__(self) -> None:
        _check_fraction("fraction", self.fraction)

    def __call__(self, x: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Shift pictures `(..., C, H, W)`; the result has the same shape."""
        height, width = _picture_size("translation", x)
        rows = self._source_indices(x, height, generator)
        columns = self._source_indices(x, width, generator)
        moved = x.gather(-2, rows[..., None, :, None].expand(x.shape))
        return moved.gather(-1, columns[..., None, None, :].expand(x.shape))

    def _source_indices(self, x: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
        """Return the index from which each row (or column) of each picture is copied, `(..., size)`."""
        most = int(self.fraction * size + 0.5)
        shift = torch.randint(-most, most + 1, (*x.shape[:-3], 1), generator=generator, device=x.device)
        return (torch.arange(size, device=x.device) - shift).clamp(0, size - 1)


@AUGMENTATIONS.register("horizontal_flip")
@dataclass(frozen=True)
class HorizontalFlip:
    """Random mirroring of each picture, left to right (Zhang et al. 2020, section 3).

    It does not suit digits and letters, most of which it turns into something else.

    Args:
        probability: The probability that a picture is mirrored.

    Raises:
        BadValueError: If `probability` is outside [0, 1].
        ShapeError: If it is called with samples that are not pictures.

    Example:
        >>> HorizontalFlip(1.0)(torch.tensor([[[[1.0, 2.0]]]]), generator=None)
        tensor([[[[2., 1.]]]])
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_fraction("probability", self.probability)

    def __call__(self, x: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Mirror pictures `(..., C, H, W)`; the result has the same shape."""
        _picture_size("horizontal_flip", x)
        mirrored = torch.rand(*x.shape[:-3], 1, 1, 1, generator=generator, device=x.device) < self.probability
        return torch.where(mirrored, x.flip(-1), x)


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise BadValueError(f"{name} must be in [0, 1], got {value!r}")


def _picture_size(name: str, x: Tensor) -> tuple[int, int]:
    if x.ndim < 4:
        raise ShapeError(f"{name} needs pictures (N, C, H, W), got samples of shape {tuple(x.shape)}")
    return x.shape[-2], x.shape[-1]
