"""Features of images, by any network or function."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from gankit.errors import BadArgumentsError, BadValueError, DataError, ShapeError, check_count
from gankit.network_modes import evaluating

Extractor: TypeAlias = Callable[[Tensor], Tensor]
"""A network, or any other function, from images `(N, C, H, W)` to features `(N, d)`."""

Images: TypeAlias = "Tensor | Iterable[Tensor | tuple[Tensor, Tensor | None] | list[Tensor]]"
"""Images `(N, C, H, W)`, or batches of them such as those of `Preset.batches`."""


def extract_features(
    extractor: Extractor, images: Images, *, sample_range: tuple[float, float] | None = None, batch_size: int = 256
) -> Tensor:
    """Return the features of images, `(N, d)`.

    The extractor works in eval mode and without a graph, and is afterwards in the mode in which it was. Images are
    moved to its device and type. This is known of modules and of their methods. A network inside another function must
    be in eval mode and on the device of the images already.

    Args:
        extractor: A network or a function from images `(N, C, H, W)` to features `(N, d)`, such as a classifier without
            its last layer, a method like `model.forward_features`, or `inception()`.
        images: Images `(N, C, H, W)` of any size, or batches of them: `images` or `(images, condition)`, whose
            conditions are not used. Batches are read to their end, so endless ones must be cut by `itertools.islice`.
        sample_range: The lowest and the highest value of the images, which are mapped to [0, 1] for the extractor. None
            passes them on as they are. Bytes are always mapped to [0, 1].
        batch_size: The number of images that the extractor gets at a time, at most.

    Returns:
        The features on the extractor's device, float32 or float64. Those of an image that is not finite are NaN.

    Raises:
        ShapeError: If the extractor does not return `(N, d)`, one row per image.
        BadArgumentsError: If the extractor is no function, or returns no floating-point numbers.
        BadValueError: If the range is empty.
        DataError: If there are no images, or a batch is none.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
        >>> extract_features(network, torch.rand(5, 1, 2, 2)).shape
        torch.Size([5, 3])
        >>> extract_features(lambda x: x, torch.rand(5, 1, 2, 2))
        Traceback (most recent call last):
        gankit.errors.ShapeError: extractor must return features (N, d), got (5, 1, 2, 2) for 5 images; .flatten(1) \
makes rows of them
    """
    if not callable(extractor):
        raise BadArgumentsError(f"extractor must be a network or a function, got {extractor!r}")
    check_count("batch_size", batch_size)
    if sample_range is not None and not sample_range[0] < sample_range[1]:
        raise BadValueError(f"sample_range must be a lower and a higher number, got {sample_range!r}")
    module = _module_of(extractor)
    found: list[Tensor] = []
    with evaluating(module) if module is not None else contextlib.nullcontext(), torch.no_grad():
        for batch in _batches(images, batch_size):
            found.append(_features_of_batch(extractor, module, batch, sample_range))
    if not found:
        raise DataError("images must be one or more, got none")
    if different := {features.shape[1] for features in found} - {found[0].shape[1]}:
        raise ShapeError(
            f"extractor must return as many features for each batch, got {found[0].shape[1]} and {min(different)}"
        )
    return torch.cat(found)


def _module_of(extractor: Extractor) -> nn.Module | None:
    """Return the extractor if it is a module, the module whose method it is, or None."""
    owner = getattr(extractor, "__self__", None)
    return next((one for one in (extractor, owner) if isinstance(one, nn.Module)), None)


def _batches(images: Images, size: int) -> Iterator[Tensor]:
    for batch in [images] if isinstance(images, Tensor) else images:
        given: object = batch
        first = cast("list[object]", given)[0] if isinstance(given, (list, tuple)) and given else given
        if not isinstance(first, Tensor) or first.ndim < 2:
            got = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
            raise DataError(f"images must be a tensor (N, C, H, W) or batches of such tensors, got {got}")
        yield from torch.split(first, size) if len(first) else ()


def _features_of_batch(
    extractor: Extractor, module: nn.Module | None, images: Tensor, sample_range: tuple[float, float] | None
) -> Tensor:
    tensors = [] if module is None else [*module.parameters(), *module.buffers()]
    device = tensors[0].device if tensors else images.device
    dtype = next((one.dtype for one in tensors if one.is_floating_point()), torch.float32)
    # a copy, because the extractor may normalise in place
    given = images.to(device, dtype if tensors or not images.is_floating_point() else images.dtype, copy=True)
    low, high = (0.0, 255.0) if images.dtype == torch.uint8 else sample_range or (0.0, 1.0)
    if (low, high) != (0.0, 1.0):
        given = (given - low) / (high - low)
    is_finite = torch.isfinite(given).flatten(1).all(1)
    features: object = extractor(given)
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        is_unflattened = isinstance(features, Tensor) and features.ndim > 2 and len(features) == len(images)
        hint = "; .flatten(1) makes rows of them" if is_unflattened else ""
        raise ShapeError(f"extractor must return features (N, d), got {got} for {len(images)} images{hint}")
    if not features.is_floating_point():
        raise BadArgumentsError(f"extractor must return floating-point numbers, got {features.dtype}")
    features = features if features.dtype == torch.float64 else features.float()
    # an extractor may hide NaN, for example by rounding to bytes
    return features.masked_fill(~is_finite.to(features.device).unsqueeze(1), torch.nan)
