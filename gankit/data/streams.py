"""Batches from a source outside gankit: a `DataLoader`, a generator, a list."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Self, cast

import torch
from torch import Tensor
from typing_extensions import override

from gankit.data.checked import MAKE_TENSORS, Keys, check_labels, checked_keys, parts_of, shape_hint
from gankit.data.epoch_reader import EpochReader
from gankit.data.placed import PlacedBatches
from gankit.data.scaling import SampleRange, check_values, scaled
from gankit.errors import BadArgumentsError, DataError, GankitError, ShapeError
from gankit.fingerprints import data_fingerprint
from gankit.protocols import Batch, State


class StreamBatches(PlacedBatches):
    """Move batches to the device, scale them, and check the first one.

    The position in them can be saved and restored if `batches` has a `state_dict` (torchdata's `StatefulDataLoader`),
    is a list, or is a `DataLoader` over a map-style data set with one of torch's samplers. In the last two cases the
    batches before that position are read again. A sampler with a method `set_epoch`, such as a `DistributedSampler`,
    gets the number of each epoch, so that it shuffles anew. While `fit` reads the batches, iterating elsewhere reads an
    epoch of its own.

    Args:
        batches: An iterable of tensors, or of tuples or lists of samples and labels, such as a `DataLoader`.
        device: The device to which batches are moved.
        sample_range: The range to which bytes are scaled and in which floats must lie. None for any range.
        sample_shape: The required shape of one sample. None for any shape.
        with_labels: Yield `(real, labels)`. Otherwise labels are dropped.
        num_classes: The number of classes: labels must be from 0 to `num_classes - 1`. None for any labels. Labels on a
            CUDA device are checked in the first batch only.
        keys: The names of the samples, or of the samples and the labels, in batches that are dictionaries.

    Raises:
        DataError: While iterating, if the first batch is out of range or not finite, labels are missing, a `DataLoader`
            has lost a worker, or `fit` reads a source that cannot be read twice at the same time. The trainer checks
            whether later batches are finite.
        ShapeError: While iterating, if the samples of the first batch have another shape.

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
        num_classes: int | None = None,
        keys: str | Sequence[str] | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.keys: Keys = checked_keys(keys)
        self.batches = batches
        self.device: torch.device = torch.device(device)
        self.sample_range = sample_range
        self.sample_shape = sample_shape
        self.with_labels = with_labels
        self._reader = EpochReader(batches)
        self._checked = False

    def __len__(self) -> int:
        """The number of batches in an epoch.

        Raises:
            BadArgumentsError: If the source does not know it.
        """
        try:
            return len(cast(Sized, self.batches))
        except TypeError as error:
            source = type(self.batches).__name__
            raise BadArgumentsError(f"len needs batches from a source that has a length, got a {source}") from error

    def __bool__(self) -> bool:
        return True

    @override
    def take(self) -> Iterator[Batch]:
        """Read an epoch, or the rest of one that was restored."""
        for batch in self._reader:
            try:
                prepared = self._prepare(batch)
            except GankitError:
                self._reader.uncount()
                raise
            yield prepared

    @override
    def follow(self, earlier: object) -> bool:
        if not isinstance(earlier, StreamBatches):
            return False
        if self._reader is not earlier._reader:
            if not self._reader.is_new or not self._reader.repeats(earlier._reader):
                return False
            self._reader = earlier._reader
        return self._settings() == earlier._settings()

    def _settings(self) -> tuple[object, ...]:
        return (self.device, self.sample_range, self.sample_shape, self.with_labels, self.num_classes, self.keys)

    @override
    def _apart(self) -> Self:
        other = copy.copy(self)
        other._reader, other.is_reserved = self._reader.apart(), False
        return other

    def _prepare(self, batch: Any) -> Batch:
        samples, labels = _split(batch, self.keys)
        is_first = not self._checked
        if is_first:
            self._check(samples)
        real = scaled(samples.to(self.device, non_blocking=True), self.sample_range)
        if not self.with_labels:
            return real
        if labels is None:
            raise DataError("batches must be (samples, labels) for a conditional model, got samples alone")
        if is_first or labels.device.type == "cpu":
            check_labels(labels, self.num_classes, " of the batch")
        return real, labels.to(self.device, non_blocking=True)

    @property
    def not_restorable(self) -> str | None:
        """Which part of the position in the batches cannot be restored, and why. None if all of it can be."""
        return self._reader.not_restorable

    def fingerprint(self) -> dict[str, str | int]:
        """Return what the data behind the batches are recognised by."""
        return data_fingerprint(self.batches)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the batches, as far as it is known."""
        return self._reader.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Continue at the position that `state_dict` returned, from the next iteration on."""
        self._reader.load_state_dict(state)

    def _check(self, samples: Tensor) -> None:
        if self.sample_shape is not None and samples.shape[1:] != self.sample_shape:
            got = tuple(samples.shape[1:])
            hint = shape_hint(self.sample_shape, got)
            raise ShapeError(f"batches must have samples of shape {self.sample_shape}, got {got}{hint}")
        check_values(samples, self.sample_range, "the batches")
        self._checked = True


def _split(batch: Any, keys: Keys) -> tuple[Tensor, Tensor | None]:
    parts = parts_of(batch, keys)
    if 1 <= len(parts) <= 2 and all(isinstance(part, Tensor) for part in parts):
        return parts[0], parts[1] if len(parts) == 2 else None
    given = type(batch).__name__
    if isinstance(batch, (list, tuple, Mapping)):
        given += f" of {', '.join(type(part).__name__ for part in parts) or 'nothing'}"
    raise DataError(f"a batch must be a tensor, or samples and labels, got {given}; {MAKE_TENSORS}")
