"""Batches that somebody else makes: a `DataLoader`, a generator, a list."""

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
    """Bring foreign batches to the device and into range, and check the first one.

    A place in them can be saved and found again where `batches` has a `state_dict` (torchdata's
    `StatefulDataLoader`), is a list, or is a `DataLoader` over a data set of known order with one of torch's samplers:
    the last two are read again up to that place. A
    `DistributedSampler` is told the number of the epoch.

    Args:
        batches: yields tensors, or tuples and lists of samples and labels, as a `DataLoader` does.
        device: where they go.
        sample_range: what bytes are scaled to, and floats must lie in; None for any.
        sample_shape: what a sample must look like; None for anything.
        with_labels: yield `(real, labels)`; otherwise labels are left behind.

    Raises:
        DataError: while iterating, for a first batch that is out of range or not finite, missing labels, or a worker
            of a `DataLoader` that is gone.
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
        self._position = 0
        self._epoch = 0
        self._before: dict[str, Any] | None = None
        self._resuming: State | None = None
        self._begins_again = False

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._places():
            try:
                made = self._made(batch)
            except GankitError:
                self._position -= 1  # it was not given out
                raise
            yield made

    def _made(self, batch: Any) -> Batch:
        samples, labels = _parts(batch)
        if not self._checked:
            self._check(samples)
        real = scaled(samples.to(self.device, non_blocking=True), self.sample_range)
        if not self.with_labels:
            return real
        if labels is None:
            raise DataError("batches must be (samples, labels) for a conditional model, got samples alone")
        return real, labels.to(self.device, non_blocking=True)

    # --- the place in the batches ------------------------------------------------------------------------

    @property
    def not_restorable(self) -> str | None:
        """What of the place in the batches cannot be saved, and why; None where all of it can."""
        batches: Any = self.batches
        if isinstance(batches, (Stateful, list, tuple)) or self._can_be_read_again:
            return None
        what = str(type(batches).__name__)
        if isinstance(batches, DataLoader):
            is_stream = isinstance(self._dataset, IterableDataset)
            what += " over an IterableDataset" if is_stream else f" with a {type(self._sampler).__name__}"
        return (
            f"the order of the batches and the place in it are lost, because a {what} has no state_dict and "
            "load_state_dict (torchdata's StatefulDataLoader has): they begin anew"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the batches, as far as they tell it."""
        if isinstance(self.batches, Stateful):
            return {"loader": self.batches.state_dict()}
        return {"position": self._position, "before": self._before}

    def load_state_dict(self, state: State) -> None:
        """Go on at the place that `state_dict` returned, from the next iteration on."""
        if isinstance(self.batches, Stateful):
            if "loader" in state:
                self.batches.load_state_dict(state["loader"])
                self._begins_again = True
        elif self.not_restorable is None and state.get("before") is not None:
            self._resuming = state

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
        """What a `DataLoader` draws its order from, beside torch's default generator."""
        found = [getattr(holder, "generator", None) for holder in (self.batches, self._sampler)]
        return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())

    def _places(self) -> Iterator[Any]:
        """Yield the batches of an epoch, counting, from the place on that was restored."""
        if isinstance(self.batches, Stateful):
            begins_again, self._begins_again = self._begins_again, False
            yield from report_lost_workers(_begun_again(self.batches) if begins_again else iter(self.batches))
            return
        state, self._resuming = self._resuming, None
        if state is None:
            self._set_epoch(self._epoch)
            own = [one.get_state() for one in self._generators()]
            self._before = {"default": torch.get_rng_state(), "own": own, "epoch": self._epoch}
            self._position = 0
            iterator = iter(self.batches)
        else:
            self._before, self._position = cast("dict[str, Any]", state["before"]), state["position"]
            iterator = self._read_again(self._before, self._position)
        for batch in report_lost_workers(iterator):
            self._position += 1
            yield batch
        self._epoch += 1

    def _set_epoch(self, epoch: int) -> None:
        """Let a `DistributedSampler` shuffle anew, as every rank does."""
        sampler: Any = self._sampler
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(epoch)

    def _read_again(self, before: dict[str, Any], count: int) -> Iterator[Any]:
        """Begin the epoch as it was begun, and leave out the batches that were given out."""
        self._epoch = before["epoch"]
        self._set_epoch(self._epoch)
        for one, state in zip(self._generators(), before["own"], strict=True):
            one.set_state(state)
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            torch.set_rng_state(before["default"])
            iterator = iter(self.batches)
            for _ in range(count):
                next(iterator, None)
        return iterator

    def _check(self, samples: Tensor) -> None:
        if self.sample_shape is not None and samples.shape[1:] != self.sample_shape:
            raise ShapeError(f"batches must have samples of shape {self.sample_shape}, got {tuple(samples.shape[1:])}")
        check_values(samples, self.sample_range, "the batches")
        self._checked = True


def _begun_again(batches: Iterable[Any]) -> Iterator[Any]:
    """Begin where a state says; the seed that a loader draws here was drawn before it was saved."""
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        return iter(batches)


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
