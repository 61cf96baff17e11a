"""Batches from a source outside gankit: a `DataLoader`, a generator, a list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from gankit.data.scaling import SampleRange, check_values, scaled
from gankit.errors import DataError, GankitError, ShapeError
from gankit.protocols import Batch, State, Stateful
from gankit.workers import report_lost_workers

_SAMPLERS = (RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler, DistributedSampler)


class StreamBatches:
    """Move batches to the device, scale them, and check the first one.

    The position in them can be saved and restored if `batches` has a `state_dict` (torchdata's `StatefulDataLoader`),
    is a list, or is a `DataLoader` over a map-style data set with one of torch's samplers. In the last two cases the
    batches before that position are read again. A `DistributedSampler` gets the number of each epoch, so that it
    shuffles anew.

    Args:
        batches: An iterable of tensors, or of tuples or lists of samples and labels, such as a `DataLoader`.
        device: The device to which batches are moved.
        sample_range: The range to which bytes are scaled and in which floats must lie. None for any range.
        sample_shape: The required shape of one sample. None for any shape.
        with_labels: Yield `(real, labels)`. Otherwise labels are dropped.

    Raises:
        DataError: While iterating, if the first batch is out of range or not finite, labels are missing, or a
            `DataLoader` has lost a worker. The trainer checks whether later batches are finite.
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
    ) -> None:
        self.batches = batches
        self.device: torch.device = torch.device(device)
        self.sample_range = sample_range
        self.sample_shape = sample_shape
        self.with_labels = with_labels
        self._checked = False
        self._position = 0
        self._epoch = 0
        self._epoch_start: dict[str, Any] | None = None
        self._restored: State | None = None
        self._continues_loader = False

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._source_batches():
            try:
                prepared = self._prepare(batch)
            except GankitError:
                self._position -= 1  # nobody has received this batch
                raise
            yield prepared

    def _prepare(self, batch: Any) -> Batch:
        samples, labels = _split(batch)
        if not self._checked:
            self._check(samples)
        real = scaled(samples.to(self.device, non_blocking=True), self.sample_range)
        if not self.with_labels:
            return real
        if labels is None:
            raise DataError("batches must be (samples, labels) for a conditional model, got samples alone")
        return real, labels.to(self.device, non_blocking=True)

    # --- the position in the batches ---------------------------------------------------------------------

    @property
    def not_restorable(self) -> str | None:
        """Which part of the position in the batches cannot be restored, and why. None if all of it can be."""
        batches: Any = self.batches
        if isinstance(batches, (Stateful, list, tuple)) or self._can_be_read_again:
            return None
        what = str(type(batches).__name__)
        if isinstance(batches, DataLoader):
            is_stream = isinstance(self._dataset, IterableDataset)
            what += " over an IterableDataset" if is_stream else f" with a {type(self._sampler).__name__}"
        return (
            f"the order of the batches and the position in it are lost, because a {what} has no state_dict and "
            "load_state_dict (torchdata's StatefulDataLoader has them); the batches begin anew"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the batches, as far as it is known."""
        if isinstance(self.batches, Stateful):
            return {"loader": self.batches.state_dict()}
        return {"position": self._position, "before": self._epoch_start}

    def load_state_dict(self, state: State) -> None:
        """Continue at the position that `state_dict` returned, from the next iteration on."""
        if isinstance(self.batches, Stateful):
            if "loader" in state:
                self.batches.load_state_dict(state["loader"])
                self._continues_loader = True
        elif self.not_restorable is None and state.get("before") is not None:
            self._restored = state

    @property
    def _can_be_read_again(self) -> bool:
        is_loader = isinstance(self.batches, DataLoader)
        return is_loader and type(self._sampler) in _SAMPLERS and not isinstance(self._dataset, IterableDataset)

    @property
    def _dataset(self) -> object:
        return getattr(self.batches, "dataset", None)

    @property
    def _sampler(self) -> object:
        return getattr(self.batches, "sampler", None)

    def _generators(self) -> list[torch.Generator]:
        """The generators from which a `DataLoader` draws its order, in addition to torch's default generator."""
        found = [getattr(holder, "generator", None) for holder in (self.batches, self._sampler)]
        return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())

    def _source_batches(self) -> Iterator[Any]:
        """Yield the source's batches of one epoch, from the restored position on, and count them."""
        if isinstance(self.batches, Stateful):
            continues, self._continues_loader = self._continues_loader, False
            yield from report_lost_workers(_continued(self.batches) if continues else iter(self.batches))
            return
        state, self._restored = self._restored, None
        if state is None:
            self._set_epoch(self._epoch)
            own = [one.get_state() for one in self._generators()]
            self._epoch_start = {"default": torch.get_rng_state(), "own": own, "epoch": self._epoch}
            self._position = 0
            iterator = iter(self.batches)
        else:
            self._epoch_start, self._position = cast("dict[str, Any]", state["before"]), state["position"]
            iterator = self._skip_to(self._epoch_start, self._position)
        for batch in report_lost_workers(iterator):
            self._position += 1
            yield batch
        self._epoch += 1

    def _set_epoch(self, epoch: int) -> None:
        """Let a `DistributedSampler` shuffle anew; all ranks set the same epoch."""
        sampler: Any = self._sampler
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(epoch)

    def _skip_to(self, epoch_start: dict[str, Any], position: int) -> Iterator[Any]:
        """Begin the epoch with the generators as they were at its start, and skip the batches before the position."""
        self._epoch = epoch_start["epoch"]
        self._set_epoch(self._epoch)
        for one, state in zip(self._generators(), epoch_start["own"], strict=True):
            one.set_state(state)
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.set_rng_state(epoch_start["default"])
            iterator = iter(self.batches)
            for _ in range(position):
                next(iterator, None)
        return iterator

    def _check(self, samples: Tensor) -> None:
        if self.sample_shape is not None and samples.shape[1:] != self.sample_shape:
            raise ShapeError(f"batches must have samples of shape {self.sample_shape}, got {tuple(samples.shape[1:])}")
        check_values(samples, self.sample_range, "the batches")
        self._checked = True


def _continued(batches: Iterable[Any]) -> Iterator[Any]:
    """Iterate from a restored state. Torch's random numbers do not advance for it.

    A loader draws a seed when its iteration begins, and for this epoch it did so before the state was saved.
    """
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        return iter(batches)


def _split(batch: Any) -> tuple[Tensor, Tensor | None]:
    given = type(batch).__name__
    if isinstance(batch, Tensor):
        return batch, None
    if isinstance(batch, (tuple, list)):
        parts: list[Any] = [*cast("Iterable[Any]", batch)]
        if 1 <= len(parts) <= 2 and all(isinstance(part, Tensor) for part in parts):
            return parts[0], parts[1] if len(parts) == 2 else None
    raise DataError(
        f"a batch must be a tensor, or samples and labels, got {given}; a transform such as "
        "torchvision's ToTensor turns pictures into tensors"
    )
