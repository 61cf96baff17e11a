"""How evenly samples are spread over the classes that a classifier sees in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from gankit.errors import DataError, ShapeError, check_count


@dataclass(frozen=True)
class ClassBalance:
    """The result of `class_balance`.

    Args:
        shares: The fraction of the samples in each class.
        smallest_share: The smallest of these fractions, from 0 to `1 / classes`.
        found_classes: The number of classes with at least one sample.
        kl: The divergence from equal shares in nats, from 0 for equal shares to `log(classes)` for a single class.
        samples: The number of samples.
    """

    shares: tuple[float, ...]
    smallest_share: float
    found_classes: int
    kl: float
    samples: int


def class_balance(labels: Tensor, num_classes: int) -> ClassBalance:
    """Count the classes of generated samples, as a classifier has predicted them.

    Formula: `kl = sum_k q_k log(q_k K)` with the shares `q` of the `K` classes, the divergence of `q` from equal shares
    in nats. With the 1,000 classes of StackedMNIST, `found_classes` and `kl` are the captured modes and the reverse KL
    of Srivastava et al. 2017 and Lin et al. 2018, section 4.2.

    The shares of real samples are not equal either, and a classifier assigns a class to anything, so compare with the
    predicted classes of as many real samples. The divergence of `N` samples of equal classes is about `(K - 1) / 2N`.

    Args:
        labels: The predicted classes, integers `(N,)` from 0 to `num_classes - 1`.
        num_classes: The number of classes.

    Raises:
        BadArgumentsError: If the number of classes is not an integer.
        BadValueError: If the number of classes is not positive.
        ShapeError: If the labels are not `(N,)`.
        DataError: If there are no labels, or some that are not integers or of no class.

    Example:
        >>> found = class_balance(torch.tensor([0, 0, 0, 1]), num_classes=4)
        >>> found.shares, found.smallest_share, found.found_classes, round(found.kl, 4)
        ((0.75, 0.25, 0.0, 0.0), 0.0, 2, 0.824)
    """
    check_count("num_classes", num_classes)
    if labels.ndim != 1:
        raise ShapeError(f"labels must be (N,), got {tuple(labels.shape)}")
    if not len(labels):
        raise DataError("labels must be one or more, got none")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise DataError(f"labels must be integers, got {labels.dtype}")
    labels = labels.cpu().long()
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < 0 or largest >= num_classes:
        raise DataError(f"labels must be from 0 to {num_classes - 1}, got {smallest} to {largest}")
    shares = torch.bincount(labels, minlength=num_classes).double() / len(labels)
    listed: list[float] = cast(Any, shares).tolist()
    return ClassBalance(
        shares=tuple(listed),
        smallest_share=float(shares.min()),
        found_classes=int((shares > 0).sum()),
        kl=float(torch.xlogy(shares, shares * num_classes).sum()),
        samples=len(labels),
    )
