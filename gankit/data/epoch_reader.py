"""Reading batches that were made outside gankit, with a position that can be saved and restored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from gankit.protocols import State, Stateful
from gankit.workers import report_lost_workers

# the samplers whose order depends only on random generators and, for a DistributedSampler, on the number of the epoch
_REPEATABLE_SAMPLERS = (
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    DistributedSampler,
)


class EpochReader:
    """Read one epoch of batches in each iteration, and count the batches.

    A source with a `state_dict` of its own restores its position itself. A list, and a `DataLoader` whose order can be
    repeated, are read again from the start of the epoch up to the position. Other sources begin anew.

    Args:
        batches: The source of the batches, which can be iterated over again for another epoch.

    Example:
        >>> reader = EpochReader(["a", "b", "c"])
        >>> first = next(iter(reader))
        >>> resumed = EpochReader(["a", "b", "c"])
        >>> resumed.load_state_dict(reader.state_dict())
        >>> first, list(resumed)
        ('a', ['b', 'c'])
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self.batches = batches
        self._loader: DataLoader[Any] | None = batches if isinstance(batches, DataLoader) else None
        self._sampler: Any = getattr(self._loader, "sampler", None)
        self._position = 0
        self._epoch = 0
        self._epoch_start: dict[str, Any] | None = None
        self._restored: State | None = None
        self._continues_loader = False

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.batches, Stateful):
            continues, self._continues_loader = self._continues_loader, False
            yield from report_lost_workers(_iterate_restored(self.batches) if continues else iter(self.batches))
            return
        state, self._restored = self._restored, None
        if state is None:
            self._set_epoch(self._epoch)
            own = [one.get_state() for one in self._generators()]
            self._epoch_start = {"default": torch.get_rng_state(), "own": own, "epoch": self._epoch}
            self._position = 0
            iterator = iter(self.batches)
        else:
            epoch_start: dict[str, Any] = state["before"]
            self._epoch_start, self._position = epoch_start, state["position"]
            iterator = self._skip_to(epoch_start, self._position)
        for batch in report_lost_workers(iterator):
            self._position += 1
            yield batch
        self._epoch += 1

    def uncount(self) -> None:
        """Take back the count of the last batch, which could not be used."""
        self._position -= 1

    @property
    def not_restorable(self) -> str | None:
        """Which part of the position cannot be restored, and why. None if all of it can be."""
        if isinstance(self.batches, (Stateful, list, tuple)) or self._is_repeatable:
            return None
        source = type(self.batches).__name__
        if self._loader is not None:
            is_stream = isinstance(self._loader.dataset, IterableDataset)
            source += " over an IterableDataset" if is_stream else f" with a {type(self._sampler).__name__}"
        return (
            f"the order of the batches and the position in it are lost, because a {source} has no state_dict and "
            "load_state_dict (torchdata's StatefulDataLoader has them); the batches begin anew"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position, as far as it is known."""
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
    def _is_repeatable(self) -> bool:
        if self._loader is None or isinstance(self._loader.dataset, IterableDataset):
            return False
        return type(self._sampler) in _REPEATABLE_SAMPLERS

    def _generators(self) -> list[torch.Generator]:
        """Return the generators from which a `DataLoader` draws its order, in addition to torch's default generator."""
        # a loader and its sampler often share one generator
        found = [getattr(owner, "generator", None) for owner in (self._loader, self._sampler)]
        return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())

    def _set_epoch(self, epoch: int) -> None:
        """Let a `DistributedSampler` shuffle anew; all ranks set the same epoch."""
        sampler = self._sampler
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


def _iterate_restored(batches: Iterable[Any]) -> Iterator[Any]:
    """Begin an iteration without a draw from torch's default generator.

    A loader draws a seed when its iteration begins. For the epoch that continues here it did so before the state was
    saved.
    """
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        return iter(batches)
