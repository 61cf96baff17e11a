"""Pixels and their range."""

from __future__ import annotations

import torch
from torch import Tensor

from gankit.errors import DataError

SampleRange = tuple[float, float] | None
"""The lowest and highest value a sample may have; None for any."""


def scaled(x: Tensor, sample_range: SampleRange) -> Tensor:
    """Return bytes as float32 in `sample_range`, and anything else as it is.

    Example:
        >>> scaled(torch.tensor([0, 255], dtype=torch.uint8), (-1.0, 1.0))
        tensor([-1.,  1.])
    """
    if x.dtype != torch.uint8:
        return x
    if sample_range is None:
        raise DataError("data of bytes needs a sample_range to scale it to, got None")
    low, high = sample_range
    unit = x.float().div_(255)
    return unit if sample_range == (0.0, 1.0) else unit.mul_(high - low).add_(low)


def check_values(x: Tensor, sample_range: SampleRange, what: str) -> None:
    """Raise `DataError` for values that are not finite or outside the range; reads the host.

    Example:
        >>> check_values(torch.tensor([0.5, 200.0]), (0.0, 1.0), "the data")
        Traceback (most recent call last):
        gankit.errors.DataError: the data must be in [0, 1], got values from 0.5 to 200; scale them, or give bytes
    """
    if x.dtype == torch.uint8 or not x.numel():
        return
    if not x.is_floating_point():
        raise DataError(f"{what} must be bytes or floating point, got {x.dtype}")
    low_value, high_value = (float(v) for v in torch.aminmax(x))  # NaN comes through
    if not bool(torch.isfinite(x).all()):
        bad = (~torch.isfinite(x)).flatten(1).any(1) if x.ndim > 1 else ~torch.isfinite(x)
        raise DataError(
            f"{what} must be finite, got NaN or infinite values in {int(bad.sum())} samples, first in "
            f"number {int(bad.nonzero()[0])}"
        )
    if sample_range is None:
        return
    low, high = sample_range
    slack = 1e-4 * (high - low)  # rounding in resizing and in half precision
    if low_value < low - slack or high_value > high + slack:
        raise DataError(
            f"{what} must be in [{low:g}, {high:g}], got values from {low_value:g} to {high_value:g}; "
            "scale them, or give bytes"
        )
