"""The batches that `fit` takes: repeated without an end, checked for NaN, and continued where they were left."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sized
from typing import Any, cast

import torch
from torch import Tensor

from gankit.errors import BadArgumentsError, DataError, DataWarning, InexactResumeWarning, warn
from gankit.fingerprints import data_fingerprint
from gankit.protocols import (
    Batch,
    DeviceBatches,
    HasDevice,
    KeepsPlace,
    KnownFinite,
    NotRestorable,
    State,
    Stateful,
    makes_new_tensors,
)
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
        BadArgumentsError: If `batches` cannot be iterated over.
        DataError: When a batch is taken, if the batches are empty or run out.

    Example:
        >>> feed = Feed([torch.zeros(2), torch.ones(2)], torch.device("cpu"))
        >>> [float(next(feed)[0]) for _ in range(3)], bool(feed.all_finite)
        ([0.0, 1.0, 0.0], True)
    """

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        if isinstance(batches, str) or (not hasattr(batches, "__iter__") and not hasattr(batches, "__getitem__")):
            raise BadArgumentsError(
                "batches must be something that yields them, such as what Preset.batches returns, got "
                f"{type(batches).__name__}"
            )
        self.batches: Iterable[Batch] = batches
        self._given: list[Iterable[Batch]] = [batches]  # with those of the present call, which share the place
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
        self._epochs = 0
        self._first: Tensor | None = None
        self._unfinished: Tensor | None = None
        is_listed = isinstance(batches, (list, tuple))
        own = getattr(batches, "sampler", batches) if self.device_batches is not None else None
        self._makes_new_tensors = is_listed or makes_new_tensors(own)

    @classmethod
    def following(cls, earlier: Feed | None, batches: Iterable[Batch], device: torch.device) -> Feed:
        """Return the feed of a call of `fit`, and reserve its batches until `release`.

        The same batches continue. New ones that were made in the same way continue where the earlier ones have stopped,
        because they would begin with the same samples again.

        Args:
            earlier: The feed of the call before, if there was one.
            batches: The batches of this call.
            device: The device of the training.
        """
        if earlier is not None and (
            earlier.batches is batches or (isinstance(batches, KeepsPlace) and batches.follow(earlier.batches))
        ):
            feed = earlier
            feed._given = [feed.batches, batches]
        else:
            feed = cls(batches, device)
            feed._unfinished = None if earlier is None or earlier._has_read_all else earlier._first
        feed._reserve(True)
        return feed

    def release(self) -> None:
        """Let others move the place in the batches again."""
        self._reserve(False)

    def _reserve(self, is_reserved: bool) -> None:
        for one in self._given:
            if isinstance(one, KeepsPlace):
                one.is_reserved = is_reserved

    @property
    def _has_read_all(self) -> bool:
        """Whether an epoch was read to its end, as far as that is known."""
        try:
            length = len(cast(Sized, self.batches))
        except (TypeError, NotImplementedError):  # an endless source, or one that does not know
            length = None
        return self._epochs > 1 or self._position == length

    @functools.cached_property
    def fingerprint(self) -> dict[str, str | int]:
        """What the data are recognised by when a training is resumed. It is computed once."""
        try:
            return data_fingerprint(self.batches)
        except Exception:  # noqa: BLE001 (data of others may raise anything, which must not end a training)
            return {}

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
            if self._first is None:
                self._see_first(batch)
            samples = None if self._known_finite else _samples_of(batch)
            if samples is not None:
                self._record_finite(samples)
            return batch
        raise DataError(
            f"batches must be something that can be iterated over again and is not empty, got "
            f"{type(self.batches).__name__} with no batch left"
        )

    def take(self, count: int) -> list[Batch]:
        """Return the next batches, for one step. If the source may refill one tensor, all but the last are copies."""
        return [self._kept(next(self), is_last=index == count - 1) for index in range(count)]

    def read(self, source: DeviceBatches, slot: int, count: int) -> Batch:
        """Return a batch of a step that draws `count` batches from the device, as `take` does."""
        return self._kept(source.read(slot), is_last=slot == count - 1)

    def _kept(self, batch: Batch, *, is_last: bool) -> Batch:
        if is_last or self._makes_new_tensors:
            return batch
        return cast("Batch", _copied(batch))

    def _see_first(self, batch: Batch) -> None:
        """Keep the first batch, and warn if an earlier feed began with the same one and never came to its end."""
        first, before, self._unfinished = _samples_of(batch), self._unfinished, None
        if first is None:
            return
        if before is not None and before.shape == first.shape and torch.equal(before, first.to(before.device)):
            warn(
                "fit was given new batches that begin with the same samples as those of the call before, which were "
                "not read to their end, so that some samples may never be seen; make the batches once, before the loop",
                DataWarning,
            )
        self._first = first if self._makes_new_tensors else first.clone()

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
        self._epochs += 1
        is_restored, self._is_restored = self._is_restored, False
        batches = self.batches
        if not is_restored:
            return batches.take() if isinstance(batches, KeepsPlace) else iter(batches)
        # a loader draws a seed when an epoch starts; for the epoch that was saved, it had already been drawn
        with default_generator_kept():
            return batches.take() if isinstance(batches, KeepsPlace) else iter(batches)

    def _record_finite(self, real: Tensor) -> None:
        finite = torch.isfinite(real).all().to(self._device)
        self.all_finite = finite if self.all_finite is None else self.all_finite & finite


def _samples_of(batch: object) -> Tensor | None:
    """Return the real samples of a batch, or None if it is none, which the step reports."""
    while isinstance(batch, (list, tuple)) and batch:
        batch = cast("tuple[object, ...]", batch)[0]
    return batch if isinstance(batch, Tensor) else None


def _copied(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_copied(one) for one in cast("tuple[object, ...]", value)]
    return value.clone() if isinstance(value, Tensor) else value
