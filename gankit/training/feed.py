"""How batches reach the trainer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from gankit.errors import DataError
from gankit.protocols import Batch, DeviceBatches, HasDevice, KnownFinite, NotRestorable, State, Stateful
from gankit.workers import end_workers_if_lost


class Feed:
    """Batches without an end, which keep their place between two calls of `fit`.

    Batches that do not call themselves `known_finite` are watched on the device: nothing is read here.

    Args:
        batches: what can be iterated over, again and again, or is endless.
        device: where the watch is kept.

    Attributes:
        all_finite: a 0-d tensor that tells whether all batches since `all_finite` was last set to None held
            finite values; None where nothing was watched.
        taken: how many batches were given out.
        device_batches: the batches, where a captured step can draw them for itself on this device, else None.

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
        # "cuda" without a number is the first one, as long as nobody chooses another
        is_here = place is not None and (place.type, place.index or 0) == (device.type, device.index or 0)
        self.device_batches: DeviceBatches | None = None
        if is_here and isinstance(batches, DeviceBatches):
            self.device_batches = batches
        self._position = 0
        self._begins_again = False

    @property
    def not_restorable(self) -> str | None:
        """What of the batches `load_state_dict` cannot restore, and why; None where it restores everything."""
        if isinstance(self.batches, (Stateful, list, tuple)):
            return self.batches.not_restorable if isinstance(self.batches, NotRestorable) else None
        return (
            f"the place in the batches is lost, because {type(self.batches).__name__} has no state_dict and "
            "load_state_dict: they begin anew"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the batches, as far as they tell it, and what was watched."""
        if isinstance(self.batches, Stateful):
            return {"batches": self.batches.state_dict(), "position": 0, "all_finite": self.all_finite}
        return {"batches": None, "position": self._position, "all_finite": self.all_finite}

    def load_state_dict(self, state: State) -> None:
        """Go on at the place that `state_dict` returned."""
        self._iterator, self._position = None, 0
        if isinstance(self.batches, Stateful):
            if state["batches"] is not None:
                self.batches.load_state_dict(state["batches"])
                self._begins_again = True
        elif isinstance(self.batches, (list, tuple)):
            self._position = state["position"]
            self._iterator = itertools.islice(self.batches, self._position, None)
        watched: Tensor | None = state["all_finite"]
        self.all_finite = None if watched is None else watched.to(self._device)

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
                self._watch(batch if isinstance(batch, Tensor) else batch[0])
            return batch
        raise DataError(
            f"batches must be something that can be iterated over again and is not empty, got "
            f"{type(self.batches).__name__} without a (further) batch"
        )

    @property
    def knows_its_place(self) -> bool:
        """Whether the place in the batches is known after an error; a stateful loader with workers may have lost it."""
        loader = getattr(self.batches, "batches", self.batches)
        return not (isinstance(loader, Stateful) and hasattr(loader, "num_workers"))

    def end_workers_if_lost(self, error: BaseException) -> DataError | None:
        """End the workers of a loader that has lost one, and return the error to raise; see `gankit.workers`."""
        return end_workers_if_lost(error, self._release_iterator)

    def _release_iterator(self) -> None:
        self._iterator = None

    def _begin(self) -> Iterator[Batch]:
        begins_again, self._begins_again = self._begins_again, False
        if not begins_again:
            return iter(self.batches)
        # a loader draws a seed here, as it had before it was saved
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            return iter(self.batches)

    def _watch(self, real: Tensor) -> None:
        finite = torch.isfinite(real).all().to(self._device)
        self.all_finite = finite if self.all_finite is None else self.all_finite & finite
