"""How batches reach the trainer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gankit.errors import DataError
from gankit.protocols import Batch, DeviceBatches


class Feed:
    """Batches without an end, which keep their place between two calls of `fit`.

    Batches that do not call themselves `known_finite` are watched on the device: nothing is read here.

    Args:
        batches: what can be iterated over, again and again, or is endless.
        device: where the watch is kept.

    Attributes:
        all_finite: a 0-d tensor that tells whether all batches since `all_finite` was last set to None held
            finite values; None where nothing was watched.

    Example:
        >>> feed = Feed([torch.zeros(2), torch.ones(2)], torch.device("cpu"))
        >>> [float(next(feed)[0]) for _ in range(3)], bool(feed.all_finite)
        ([0.0, 1.0, 0.0], True)
    """

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        self.batches: Iterable[Batch] = batches
        self.all_finite: Tensor | None = None
        self._device = device
        self._known_finite = bool(getattr(batches, "known_finite", False))
        self._iterator: Iterator[Batch] | None = None

    @property
    def device_batches(self) -> DeviceBatches | None:
        """The batches, where a captured step can draw them for itself on this device, else None."""
        place: torch.device | None = getattr(self.batches, "device", None)
        if not isinstance(self.batches, DeviceBatches) or place is None or place.type != self._device.type:
            return None
        # "cuda" without a number is the first one, as long as nobody chooses another
        return self.batches if (place.index or 0) == (self._device.index or 0) else None

    def __next__(self) -> Batch:
        for _ in range(2):
            if self._iterator is None:
                self._iterator = iter(self.batches)
            try:
                batch = next(self._iterator)
            except StopIteration:
                self._iterator = None
                continue
            if not self._known_finite:
                self._watch(batch if isinstance(batch, Tensor) else batch[0])
            return batch
        raise DataError(
            f"batches must be something that can be iterated over again and is not empty, got "
            f"{type(self.batches).__name__} without a (further) batch"
        )

    def _watch(self, real: Tensor) -> None:
        finite = torch.isfinite(real).all().to(self._device)
        self.all_finite = finite if self.all_finite is None else self.all_finite & finite
