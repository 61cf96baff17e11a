"""Batches that somebody else makes: a `DataLoader`, a generator, a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor

from gankit.data.scaling import SampleRange, check_values, scaled
from gankit.errors import DataError, ShapeError
from gankit.protocols import Batch


class StreamBatches:
    """Bring foreign batches to the device and into range, and check the first one.

    Args:
        batches: yields tensors, or tuples and lists of samples and labels, as a `DataLoader` does.
        device: where they go.
        sample_range: what bytes are scaled to, and floats must lie in; None for any.
        sample_shape: what a sample must look like; None for anything.
        with_labels: yield `(real, labels)`; otherwise labels are left behind.

    Raises:
        DataError: while iterating, for a first batch that is out of range or not finite, or missing labels.
            Later batches are watched by the trainer.
        ShapeError: while iterating, for a first batch of another shape.

    Example:
        >>> loader = [[torch.rand(4, 1, 8, 8), torch.arange(4)]]
        >>> [batch.shape for batch in StreamBatches(loader)]
        [torch.Size([4, 1, 8, 8])]
    """

    known_finite = False

    def __init__(
        self,
        batches: Iterable[Any],
        *,
        device: torch.device | str = "cpu",
        sample_range: SampleRange = (0.0, 1.0),
        sample_shape: tuple[int, ...] | None = None,
        with_labels: bool = False,
    ) -> None:
        self.batches = batches
        self.device: torch.device = torch.device(device)
        self.sample_range = sample_range
        self.sample_shape = sample_shape
        self.with_labels = with_labels
        self._checked = False

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            samples, labels = _parts(batch)
            if not self._checked:
                self._check(samples)
            real = scaled(samples.to(self.device, non_blocking=True), self.sample_range)
            if not self.with_labels:
                yield real
            elif labels is None:
                raise DataError("batches must be (samples, labels) for a conditional model, got samples alone")
            else:
                yield real, labels.to(self.device, non_blocking=True)

    def _check(self, samples: Tensor) -> None:
        if self.sample_shape is not None and samples.shape[1:] != self.sample_shape:
            raise ShapeError(f"batches must have samples of shape {self.sample_shape}, got {tuple(samples.shape[1:])}")
        check_values(samples, self.sample_range, "the batches")
        self._checked = True


def _parts(batch: Any) -> tuple[Tensor, Tensor | None]:
    given = type(batch).__name__
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, (tuple, list)):
        parts: list[Any] = [*cast("Iterable[Any]", batch)]
        if 1 <= len(parts) <= 2 and all(isinstance(part, Tensor) for part in parts):
            return parts[0], parts[1] if len(parts) == 2 else None
    raise DataError(
        f"a batch must be a tensor, or samples and labels, got {given}; a transform such as "
        "torchvision's ToTensor makes tensors of pictures"
    )
