"""The range of samples: bytes are scaled to it, and floats are checked against it."""

from __future__ import annotations

import torch
from torch import Tensor

from gankit.errors import DataError, DataWarning, warn

SampleRange = tuple[float, float] | None
"""The lowest and the highest value that a sample may have; None for any values."""

_FEWEST = 1_000  # the range of fewer values says little


def scaled(x: Tensor, sample_range: SampleRange) -> Tensor:
    """Return bytes as float32 in `sample_range`, and other types unchanged.

    Raises:
        DataError: If bytes are to be scaled and `sample_range` is None.

    Example:
        >>> scaled(torch.tensor([0, 255], dtype=torch.uint8), (-1.0, 1.0))
        tensor([-1.,  1.])
    """
    if x.dtype != torch.uint8:
        return x
    if sample_range is None:
        raise DataError("sample_range must be a pair of numbers for data of bytes, which are scaled to it, got None")
    low, high = sample_range
    unit = x.float().div_(255)
    return unit if sample_range == (0.0, 1.0) else unit.mul_(high - low).add_(low)


def check_values(x: Tensor, sample_range: SampleRange, what: str) -> None:
    """Raise `DataError` if a value is not finite or is outside the range, and warn of another scale inside it.

    Values on a CUDA device are read, for which this waits for the device.

    Args:
        x: The samples, bytes or floating point.
        sample_range: The allowed range. None for any finite values.
        what: How the message names the samples, such as "the data".

    Warns:
        DataWarning: If the values use so little of the range that they seem to have another scale.

    Example:
        >>> check_values(torch.tensor([0.5, 200.0]), (0.0, 1.0), "the data")
        Traceback (most recent call last):
        gankit.errors.DataError: the data must be in [0, 1], got values from 0.5 to 200; scale them, or pass bytes
    """
    if x.layout != torch.strided:
        raise DataError(f"{what} must be dense, got {x.layout}; .to_dense() makes them so")
    if not x.numel():
        return
    if x.dtype == torch.uint8:
        if sample_range is not None:
            low_value, high_value = (float(one) for one in torch.aminmax(x))
            _warn_of_scale(x, (0.0, 255.0), low_value, high_value, what)
        return
    if not x.is_floating_point():
        raise DataError(f"{what} must be bytes or floating point, got {x.dtype}")
    low_value, high_value = (float(v) for v in torch.aminmax(x))  # NaN if any value is
    if not bool(torch.isfinite(x).all()):
        bad = (~torch.isfinite(x)).flatten(1).any(1) if x.ndim > 1 else ~torch.isfinite(x)
        raise DataError(
            f"{what} must be finite, got NaN or infinite values in {int(bad.sum())} samples, first in "
            f"number {int(bad.nonzero()[0])}"
        )
    if sample_range is None:
        return
    low, high = sample_range
    slack = 1e-4 * (high - low)  # for rounding errors of resizing and of half precision
    if low_value < low - slack or high_value > high + slack:
        raise DataError(
            f"{what} must be in [{low:g}, {high:g}], got values from {low_value:g} to {high_value:g}; "
            "scale them, or pass bytes"
        )
    _warn_of_scale(x, sample_range, low_value, high_value, what)


def _warn_of_scale(x: Tensor, expected: tuple[float, float], low_value: float, high_value: float, what: str) -> None:
    """Warn of pictures that are nearly of one brightness, and of those in [0, 1] where [-1, 1] is expected."""
    low, high = expected
    is_narrow = high_value - low_value < (high - low) / 16
    is_upper_half = low < 0 and low_value >= (low + high) / 2
    if x.numel() >= _FEWEST and (is_narrow or is_upper_half):
        kind = "bytes" if x.dtype == torch.uint8 else "values"
        warn(
            f"{what} are expected to have {kind} from {low:g} to {high:g}, and have {kind} from {low_value:g} to "
            f"{high_value:g}, which seems to be another scale; scale them to the range"
            + ("" if x.dtype == torch.uint8 else ", or pass bytes"),
            DataWarning,
        )
