"""Reading batches that were made outside gankit, with a position that can be saved and restored."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from gankit.data.checked import CheckedDataset, explained
from gankit.data.picture_folder import PictureFiles
from gankit.data.random_streams import check_names, generator_state, generators_behind, set_generator_state
from gankit.errors import BadArgumentsError, DataError, InexactResumeWarning, warn
from gankit.protocols import State, Stateful
from gankit.seeds import default_generator_kept
from gankit.workers import RANDOM_WORKERS, report_lost_workers

# the samplers whose order depends only on random generators and, for a DistributedSampler, on the number of the epoch
_REPEATABLE_SAMPLERS = (
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    DistributedSampler,
    list,
    tuple,
    range,
)


def sampler_of(loader: DataLoader[Any]) -> Any:
    """Return what decides the order of a `DataLoader`: its sampler, or a batch sampler that is not torch's own.

    Example:
        >>> type(sampler_of(DataLoader([1, 2], 2, shuffle=True))).__name__
        'RandomSampler'
    """
    # with a batch sampler, `loader.sampler` is a SequentialSampler that is not used
    owner: Any = loader
    batch_sampler = owner.batch_sampler
    if batch_sampler is None:
        return owner.sampler
    return batch_sampler.sampler if type(batch_sampler) is BatchSampler else batch_sampler


class EpochReader:
    """Read one epoch of batches in each iteration, and count the batches.

    A source with a `state_dict` of its own restores its position itself. A list, and a `DataLoader` whose order can be
    repeated, are read again from the start of the epoch up to the position; the generators that the loader, its sampler
    and its data set hold, and the global ones of torch, numpy and Python, are set to what they were then. Other sources
    begin anew.

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
        self._sampler: Any = None if self._loader is None else sampler_of(self._loader)
        self._position = 0
        self._epoch = 0
        self._epoch_start: dict[str, Any] | None = None
        self._newest: Any = None
        self._restored: State | None = None
        self._is_apart = False

    def __iter__(self) -> Iterator[Any]:
        if self._is_apart:
            yield from report_lost_workers(self._look())
            return
        state, self._restored = self._restored, None
        if isinstance(self.batches, Stateful):
            iterator = iter(self.batches) if state is None else self._continue_loader(self.batches, state)
        elif state is None:
            self._set_epoch(self._epoch)
            self._epoch_start = {
                "default": torch.get_rng_state(),
                "own": [one.get_state() for one in self._generators()],
                "others": self._other_states(),
                "epoch": self._epoch,
                "starts_workers": self._starts_workers,
            }
            self._position = 0
            iterator = iter(self.batches)
        else:
            self._epoch_start, self._position = state["before"], state["position"]
            iterator = self._skip_to(state)
        for batch in explained(report_lost_workers(iterator), self._position):
            self._position += 1
            self._newest = batch
            yield batch
        self._epoch += 1

    @property
    def is_new(self) -> bool:
        """Whether nothing has been read or restored."""
        return self._epoch_start is None and self._restored is None and not self._position

    def repeats(self, other: EpochReader) -> bool:
        """Return whether this source is the other one, or a `DataLoader` that was made anew in the same way."""
        if self.batches is other.batches:
            return True
        mine, theirs = _made_as(self._loader), _made_as(other._loader)
        return mine is not None and theirs is not None and mine == theirs

    def apart(self) -> EpochReader:
        """Return a reader of the same source that moves no place and no generator of this one.

        Raises:
            DataError: If the source keeps its own place, so that only one can read it.
        """
        if isinstance(self.batches, (Stateful, Iterator)):
            raise DataError(
                f"batches that `fit` reads can be read by others only if their source can be read several times, got "
                f"a {type(self.batches).__name__}; make other batches for it"
            )
        source: Any = self.batches
        if self._loader is not None:
            source = copy.copy(self._loader)
            source._iterator = None  # persistent workers serve one reader
        other = EpochReader(source)
        other._is_apart = True
        return other

    def uncount(self) -> None:
        """Take back the count of the last batch, which could not be used."""
        self._position -= 1
        self._newest = None

    @property
    def not_restorable(self) -> str | None:
        """Which part of the position cannot be restored, and why. None if all of it can be."""
        if isinstance(self.batches, Stateful):
            # torchdata's loader saves the place of its workers, and not their generators
            return RANDOM_WORKERS if getattr(self.batches, "num_workers", 0) else None
        if isinstance(self.batches, (list, tuple)):
            return None
        if self._is_repeatable:
            epoch_start = self._epoch_start if self._restored is None else self._restored["before"]
            return None if epoch_start is None or epoch_start["starts_workers"] else RANDOM_WORKERS
        source = type(self.batches).__name__
        if self._loader is not None:
            if isinstance(self._loader.dataset, IterableDataset):
                source += " over an IterableDataset"
            elif getattr(self._loader, "in_order", True):
                source += f" with a {type(self._sampler).__name__}"
            else:
                source += " with in_order=False"
        return (
            f"the order of the batches and the position in it are lost, because a {source} has no state_dict and "
            "load_state_dict (torchdata's StatefulDataLoader has them); the batches begin anew"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position, as far as it is known."""
        if self._restored is not None:  # nothing has been read since
            return dict(self._restored)
        if isinstance(self.batches, Stateful):
            return {"loader": self.batches.state_dict(), "others": self._other_states()}
        newest = _digest(self._newest) if self._is_repeatable else None
        return {
            "position": self._position,
            "before": self._epoch_start,
            "others": self._other_states(),
            "newest": newest,
        }

    def load_state_dict(self, state: State) -> None:
        """Continue at the position that `state_dict` returned, from the next iteration on.

        Raises:
            BadArgumentsError: If the state is not one of batches like these.
        """
        if isinstance(self.batches, Stateful):
            if "loader" not in state:
                return
            check_names(state, {"loader", "others"})
            self.batches.load_state_dict(state["loader"])
            self._restored = state
        elif (isinstance(self.batches, (list, tuple)) or self._is_repeatable) and state.get("before") is not None:
            check_names(state, {"position", "before", "others", "newest"})
            check_names(state["before"], {"default", "own", "others", "epoch", "starts_workers"})
            self._restored = state

    # --- the random generators behind the batches ------------------------------------------------------------

    @property
    def _is_repeatable(self) -> bool:
        if self._loader is None or isinstance(self._loader.dataset, IterableDataset):
            return False
        return getattr(self._loader, "in_order", True) and type(self._sampler) in _REPEATABLE_SAMPLERS

    @property
    def _starts_workers(self) -> bool:
        """Whether an epoch that begins now starts its workers, whose generators the loader then seeds."""
        loader = self._loader
        keeps = loader is not None and loader.persistent_workers and loader.num_workers > 0
        return not keeps or getattr(loader, "_iterator", None) is None

    def _generators(self) -> list[torch.Generator]:
        """Return the generators from which a `DataLoader` draws its order, in addition to torch's default generator."""
        # a loader and its sampler often share one generator
        found = [getattr(owner, "generator", None) for owner in (self._loader, self._sampler)]
        return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())

    def _other_generators(self) -> list[Any]:
        """Return the generators from which the data set may draw, in addition to torch's default generator."""
        if isinstance(self.batches, (list, tuple)):
            return []
        parts = [getattr(self.batches, name, None) for name in ("dataset", "collate_fn")]
        own = {id(one) for one in self._generators()}
        return [one for one in generators_behind(*parts) if id(one) not in own]

    def _other_states(self) -> list[Tensor | str]:
        return [generator_state(one) for one in self._other_generators()]

    def _set_others(self, states: Sequence[Tensor | str]) -> None:
        others = self._other_generators()
        try:
            if len(others) != len(states):
                raise BadArgumentsError(
                    f"a data set must have the random generators that were saved, {len(states)} with the global ones, "
                    f"got {len(others)}"
                )
            for one, state in zip(others, states, strict=True):
                set_generator_state(one, state)
        except BadArgumentsError as error:
            warn(f"training continues, but not as if it had never stopped: {error}", InexactResumeWarning)

    def _set_epoch(self, epoch: int) -> None:
        """Let a sampler that shuffles by the number of the epoch shuffle anew; all ranks set the same epoch."""
        set_epoch = getattr(self._sampler, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)

    # --- reading apart ---------------------------------------------------------------------------------------

    def _look(self) -> Iterator[Any]:
        """Read an epoch with generators of its own, and leave those of others as they are."""
        generators = [torch.default_generator, *self._generators(), *self._other_generators()]
        states = [generator_state(one) for one in generators]
        iterator: Iterator[Any] | None = None
        while True:
            kept = [generator_state(one) for one in generators]
            try:
                _set_states(generators, states)
                iterator = iter(self.batches) if iterator is None else iterator
                batches = list(islice(iterator, 1))
                states = [generator_state(one) for one in generators]
            finally:
                _set_states(generators, kept)
            if not batches:
                return
            yield batches[0]

    # --- continuing ------------------------------------------------------------------------------------------

    def _continue_loader(self, batches: Iterable[Any], state: State) -> Iterator[Any]:
        # A loader draws a seed when its iteration begins. For the epoch that continues here it did so before the state
        # was saved.
        with default_generator_kept():
            iterator = iter(batches)
        self._set_others(state["others"])
        return iterator

    def _skip_to(self, state: State) -> Iterator[Any]:
        """Begin the epoch with the generators as they were at its start, and skip the batches before the position."""
        epoch_start, position = state["before"], state["position"]
        self._epoch = epoch_start["epoch"]
        self._set_epoch(self._epoch)
        with default_generator_kept():
            self._match_workers(epoch_start["starts_workers"])
            for one, own in zip(self._generators(), epoch_start["own"], strict=True):
                one.set_state(own)
            self._set_others(epoch_start["others"])
            torch.set_rng_state(epoch_start["default"])
            iterator, newest = iter(self.batches), None
            for batch in islice(iterator, position):
                newest = batch
            if not position:  # the sampler draws the order with the first batch
                iterator = chain(list(islice(iterator, 1)), iterator)
        self._set_others(state["others"])
        if state["newest"] is not None and _digest(newest) != state["newest"]:
            warn(
                f"training continues, but not as if it had never stopped: batch {position} of the epoch was read "
                "again and has other values than before; the data have changed, or they draw random numbers from a "
                "generator that cannot be restored",
                InexactResumeWarning,
            )
        return iterator

    def _match_workers(self, starts_workers: bool) -> None:
        """Let the next iteration start workers or go on with those that are there, as the one that is repeated did."""
        loader: Any = self._loader
        if self._starts_workers is not starts_workers:
            if starts_workers:
                loader._iterator = None
            else:
                iter(loader)


def _made_as(loader: Any) -> tuple[object, ...] | None:
    """Return what decides the batches of a `DataLoader`, or None if there is no loader."""
    if loader is None:
        return None
    sampler = sampler_of(loader)
    kind: type = type(cast(object, sampler))
    if kind is RandomSampler:
        order: tuple[object, ...] = (sampler.replacement, sampler.num_samples, _seed_of(sampler))
    elif kind is DistributedSampler:
        order = (sampler.num_replicas, sampler.rank, sampler.shuffle, sampler.seed, sampler.drop_last)
    elif kind is SequentialSampler:
        order = ()
    else:  # which may hold anything
        order = (id(sampler),)
    settings = (loader.batch_size, loader.drop_last, loader.collate_fn, loader.num_workers, _seed_of(loader))
    dataset = loader.dataset
    dataset = dataset.dataset if isinstance(dataset, CheckedDataset) else dataset
    # pictures that stay on disk are found anew each time that the folder is named
    content = dataset.content if isinstance(dataset, PictureFiles) else id(dataset)
    return (content, *settings, kind, *order)


def _seed_of(owner: Any) -> int | None:
    generator: torch.Generator | None = owner.generator
    return None if generator is None else generator.initial_seed()


def _set_states(generators: Sequence[Any], states: Sequence[Tensor | str]) -> None:
    for one, state in zip(generators, states, strict=True):
        set_generator_state(one, state)


def _digest(batch: Any) -> str | None:
    """Return a digest of all tensors in a batch, or None for one without any."""
    digest, tensors = hashlib.blake2b(digest_size=16), 0
    waiting: list[Any] = [batch]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor) and value.layout == torch.strided:
            tensors += 1
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, Mapping):
            waiting += cast("Mapping[Any, Any]", value).values()
        elif isinstance(value, (list, tuple)):
            waiting += cast("Sequence[Any]", value)
    return digest.hexdigest() if tensors else None
