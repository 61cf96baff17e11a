"""Squared distances between all rows of two sets, in float64, and the checks of such sets."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError, DataError, NonFiniteDataError, ShapeError

_WITHOUT_FLOAT64 = ("mps",)


def computing_device(tensor: Tensor) -> torch.device:
    """Return the device to compute on in float64: that of the tensor, or the CPU if that device has no float64.

    Example:
        >>> computing_device(torch.zeros(2))
        device(type='cpu')
    """
    return torch.device("cpu") if tensor.device.type in _WITHOUT_FLOAT64 else tensor.device


def finite_rows(rows: Tensor) -> Tensor:
    """Return for each row whether all its numbers are finite, `(N,)`.

    Example:
        >>> finite_rows(torch.tensor([[0.0, 1.0], [0.0, float("nan")]]))
        tensor([ True, False])
    """
    return torch.isfinite(rows).flatten(1).all(1)


def check_rows(name: str, rows: Tensor, least: int = 1, *, like: Tensor | None = None, finite: bool = False) -> None:
    """Raise unless a tensor has rows of floating-point numbers, `(N, ...)`.

    Args:
        name: The name of the argument, for the message.
        rows: The tensor.
        least: The smallest number of rows.
        like: A tensor whose rows have the right shape. None allows any shape of at least one number.
        finite: Whether all numbers must be finite.

    Raises:
        BadArgumentsError: If the numbers are not of a floating-point type.
        ShapeError: If the shape does not fit.
        DataError: If there are too few rows.
        NonFiniteDataError: If a number must be finite and is not.

    Example:
        >>> check_rows("real", torch.zeros(1, 3), 2)
        Traceback (most recent call last):
        gankit.errors.DataError: real must have 2 or more rows, got 1
    """
    if not rows.is_floating_point():
        raise BadArgumentsError(f"{name} must be floating-point numbers, got {rows.dtype}")
    if rows.ndim < 2 or not rows.shape[1:].numel():
        raise ShapeError(f"{name} must be (N, ...) with one or more numbers per row, got {tuple(rows.shape)}")
    if like is not None and rows.shape[1:] != like.shape[1:]:
        expected = ", ".join(["N", *map(str, like.shape[1:])])
        raise ShapeError(f"{name} must be ({expected}) like the other set, got {tuple(rows.shape)}")
    if len(rows) < least:
        raise DataError(f"{name} must have {least} or more rows, got {len(rows)}")
    if finite and (bad := len(rows) - int(finite_rows(rows).sum())):
        raise NonFiniteDataError(f"{name} must be finite, got NaN or infinity in {bad} of {len(rows)} rows")


def check_features(samples: Tensor, real: Tensor, least: int = 1) -> None:
    """Raise unless two tensors are features `(N, d)` and `(M, d)`, and the real ones are finite.

    Args:
        samples: The features of generated samples. They may be NaN or infinite.
        real: The features of real samples.
        least: The smallest number of rows of either.

    Raises:
        BadArgumentsError, ShapeError, DataError, NonFiniteDataError: As `check_rows`.

    Example:
        >>> check_features(torch.zeros(2, 1, 28, 28), torch.zeros(2, 1, 28, 28))
        Traceback (most recent call last):
        gankit.errors.ShapeError: samples must be features (N, d), got (2, 1, 28, 28)
    """
    if samples.ndim != 2:
        raise ShapeError(f"samples must be features (N, d), got {tuple(samples.shape)}")
    check_rows("samples", samples, least)
    check_rows("real", real, least, like=samples, finite=True)


def blocks(rows: Tensor, size: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the rows in blocks of at most `size`, `(size, d)`, in float64 on a device.

    Only a block at a time is held in float64, so a large set needs little memory beyond its own.

    Example:
        >>> [tuple(one.shape) for one in blocks(torch.zeros(5, 1, 2), 2, torch.device("cpu"))]
        [(2, 2), (2, 2), (1, 2)]
    """
    for start in range(0, len(rows), size):
        yield rows[start : start + size].to(device).double().flatten(1)


def squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the squared Euclidean distance of each row of one block to each row of another, `(N, M)`.

    Formula: `|x|² + |y|² - 2 x·y`, one matrix product. Its rounding error is at most `d eps (|x|² + |y|²)` with
    float64's `eps` of 2.2e-16. What is smaller counts as 0, so equal rows have the distance 0 exactly.

    Args:
        rows: A block `(N, d)` in float64.
        columns: A block `(M, d)` in float64.

    Example:
        >>> squared_distances(torch.tensor([[0.0, 0.0]]).double(), torch.tensor([[3.0, 4.0], [0.0, 0.0]]).double())
        tensor([[25.,  0.]], dtype=torch.float64)
    """
    norms = rows.square().sum(1, keepdim=True) + columns.square().sum(1)
    distances = torch.addmm(norms, rows, columns.T, alpha=-2)
    return distances.masked_fill_(distances <= norms.mul_(rows.shape[1] * torch.finfo(torch.float64).eps), 0)
