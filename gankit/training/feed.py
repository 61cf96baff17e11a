"""The batches that `fit` takes: repeated without an end, checked for NaN, and continued where they were left."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from gankit.errors import DataError, InexactResumeWarning, warn
from gankit.protocols import Batch, DeviceBatches, HasDevice, KnownFinite, NotRestorable, State, Stateful
from gankit.seeds import default_generator_kept
from gankit.workers import RANDOM_WORKERS, end_workers_if_lost

_RANDOM_DATA = (
    "what the data set draws from generators of Python, of numpy or of its own is not saved (`Preset.batches` and "
    "`StreamBatches` save it)"
)


class Feed:
    """An endless iterator over batches, which keeps its place between two calls of `fit`.

    Unless the batches declare that they are `known_finite`, the feed records on the device whether they are. It reads
    nothing on the host.

    Args:
        batches: Something that can be iterated over repeatedly, or an endless iterator.
        device: The device on which the feed records whether the batches are finite.

    Attributes:
        batches: As given.
        all_finite: Whether all values since this attribute was last set to None were finite, as a 0-d tensor. None if
            no batch has been checked since then.
        taken: The number of batches that were taken.
        device_batches: The batches, if a captured step can draw them itself on this device, and None otherwise.

    Raises:
        DataError: When a batch is taken, if the batches are empty or run out.

    Example:
        >>> feed = Feed([torch.zeros(2), torch.ones(2)], torch.device("cpu"))
        >>> [float(next(feed)[0]) for _ in range(3)], bool(feed.all_finite)
        ([0.0, 1.0, 0.0], True)
    """

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        self.batches: Iterable[Batch] = batches
        self.all_finite: Tensor | None = None
        self.taken: int = 0
        self._device = device
        self._known_finite = isinstance(batches, KnownFinite) and batches.known_finite
        self._iterator: Iterator[Batch] | None = None
        place = batches.device if isinstance(batches, HasDevice) else None
        # "cuda" without a number is the first device, unless another was made the current one
        is_here = place is not None and (place.type, place.index or 0) == (device.type, device.index or 0)
        self.device_batches: DeviceBatches | None = None
        if is_here and isinstance(batches, DeviceBatches):
            self.device_batches = batches
        self._position = 0
        self._is_restored = False
        self._has_warned = False

    @property
    def not_restorable(self) -> str | None:
        """What `load_state_dict` cannot restore of the batches, and why, or None if it restores everything."""
        if isinstance(self.batches, NotRestorable):
            return self.batches.not_restorable
        if isinstance(self.batches, Stateful):
            if not hasattr(self.batches, "dataset"):
                return None
            # torchdata's loader saves its place, and no generators
            return RANDOM_WORKERS if getattr(self.batches, "num_workers", 0) else _RANDOM_DATA
        if isinstance(self.batches, (list, tuple)):
            return None
        return (
            f"the place in the batches is lost, because {type(self.batches).__name__} has no state_dict and "
            "load_state_dict; they start from the beginning (`Preset.batches` and `StreamBatches` keep the place in a "
            "DataLoader)"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the batches, as far as they report it, and `all_finite`.

        If `not_restorable` names something, one `InexactResumeWarning` says so.
        """
        lost = self.not_restorable
        if lost is not None and not self._has_warned:
            self._has_warned = True
            warn(f"a training that is resumed from this state does not continue exactly: {lost}", InexactResumeWarning)
        if isinstance(self.batches, Stateful):
            return {"batches": self.batches.state_dict(), "position": 0, "all_finite": self.all_finite}
        return {"batches": None, "position": self._position, "all_finite": self.all_finite}

    def load_state_dict(self, state: State) -> None:
        """Continue at the place that `state_dict` returned."""
        self._iterator, self._position = None, 0
        if isinstance(self.batches, Stateful):
            if state["batches"] is not None:
                self.batches.load_state_dict(state["batches"])
                self._is_restored = True
        elif isinstance(self.batches, (list, tuple)):
            self._position = state["position"]
            self._iterator = itertools.islice(self.batches, self._position, None)
        all_finite: Tensor | None = state["all_finite"]
        self.all_finite = None if all_finite is None else all_finite.to(self._device)

    def __next__(self) -> Batch:
        for _ in range(2):
            if self._iterator is None:
                self._iterator, self._position = self._begin(), 0
            try:
                batch = next(self._iterator)
            except StopIteration:
                self._iterator = None
                continue
            self._position += 1
            self.taken += 1
            if not self._known_finite:
                self._record_finite(batch if isinstance(batch, Tensor) else batch[0])
            return batch
        raise DataError(
            f"batches must be something that can be iterated over again and is not empty, got "
            f"{type(self.batches).__name__} with no batch left"
        )

    @property
    def knows_its_place(self) -> bool:
        """Whether the place in the batches is known after an error. A stateful loader with workers may have lost it."""
        loader = getattr(self.batches, "batches", self.batches)
        return not (isinstance(loader, Stateful) and hasattr(loader, "num_workers"))

    def end_workers_if_lost(self, error: BaseException) -> DataError | None:
        """End the workers of a loader that has lost one, and return the error to raise. See `gankit.workers`."""
        return end_workers_if_lost(error, self._release_iterator)

    def _release_iterator(self) -> None:
        self._iterator = None

    def _begin(self) -> Iterator[Batch]:
        is_restored, self._is_restored = self._is_restored, False
        if not is_restored:
            return iter(self.batches)
        # a loader draws a seed when an epoch starts; for the epoch that was saved, it had already been drawn
        with default_generator_kept():
            return iter(self.batches)

    def _record_finite(self, real: Tensor) -> None:
        finite = torch.isfinite(real).all().to(self._device)
        self.all_finite = finite if self.all_finite is None else self.all_finite & finite
