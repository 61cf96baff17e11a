"""What a checkpoint holds, and how a training continues from it.

The state has three parts, which only this file knows: `training`, which is the same on every rank; `ranks`, with the
random generators and the place in the batches of each rank; and `callbacks`, with the states of those that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, cast

from gankit.errors import CheckpointError, GankitError, InexactResumeWarning, warn
from gankit.protocols import Batch, Stateful
from gankit.training.feed import Feed
from gankit.training.parallel.ranks import Ranks
from gankit.training.saving.environment import changes_between, environment_of, without_data
from gankit.training.saving.manifest import versions
from gankit.training.step.finite import FiniteWatch
from gankit.training.step.loading import on_host, whole_or_not_at_all
from gankit.training.step.state import TrainingState

_DATA_FIELDS = {"data", "batch_size", "seed", "replicas", "num_classes", "ranks"}
"""The fields of a recipe that decide which batches there are."""


class Resumable(Protocol):
    """A training that can be saved and continued, as `gankit.AdversarialTrainer` can."""

    ranks: Ranks
    feed: Feed | None
    state: TrainingState

    @property
    def callbacks(self) -> Sequence[object]:
        """What is called during training. The states of those that have one are saved."""
        ...

    @property
    def steps_done(self) -> int:
        """The number of steps that were made."""
        ...

    @property
    def watch(self) -> FiniteWatch:
        """What was recorded of NaN and infinity."""
        ...

    def complaint(self) -> GankitError | None:
        """Return the error that says what is NaN or infinite, or None."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Continue from a state of the training."""
        ...

    def data_state(self) -> dict[str, Any] | None:
        """Return the place in the batches, or None before the first one."""
        ...

    def load_data_state(self, batches: Iterable[Batch], state: Mapping[str, Any], /) -> str | None:
        """Continue at a place in the batches, and return what cannot be restored, or None."""
        ...


def whole_state(training: Resumable) -> dict[str, Any] | None:
    """Return everything that the next step depends on, on rank 0, and None on the others. This is collective.

    Raises:
        CheckpointError: In the middle of a step, or after an error in the middle of one.

    Example:
        >>> from gankit.presets import ring
        >>> sorted(whole_state(ring(device="cpu")))
        ['callbacks', 'ranks', 'training']
    """
    state = training.state
    if not state.is_between_steps:
        raise CheckpointError(f"a checkpoint must be saved between two steps, but {state.unfinished}")
    own = {**training.state.rank_state_dict(), "data": training.data_state()}
    ranks = training.ranks.gather(own)
    if not training.ranks.is_first:
        return None
    return {
        "training": training.state.shared_state_dict(),
        "ranks": ranks,
        "callbacks": [
            {"name": type(callback).__name__, "state": callback.state_dict()}
            for callback in training.callbacks
            if isinstance(callback, Stateful)
        ],
    }


def is_state(state: Any) -> bool:
    """Return whether something that was read has the parts that `whole_state` returns.

    Example:
        >>> from gankit.presets import ring
        >>> is_state(whole_state(ring(device="cpu"))), is_state({"training": {}})
        (True, False)
    """
    if type(state) is not dict:
        return False
    parts = cast("dict[str, Any]", state)
    if parts.keys() != {"training", "ranks", "callbacks"} or type(parts["training"]) is not dict:
        return False
    training = cast("dict[str, Any]", parts["training"])
    return (
        type(training.get("steps_done")) is int
        and _are_dicts(training.get("history"), None, lambda value: isinstance(value, (int, float)))
        and bool(parts["ranks"])
        and _are_dicts(parts["ranks"], {"random", "data"}, lambda value: value is None or type(value) is dict)
        and _are_dicts(parts["callbacks"], {"name", "state"}, lambda _: True)
    )


def _are_dicts(rows: Any, names: set[str] | None, fits: Callable[[Any], bool]) -> bool:
    """Return whether this is a list of dictionaries with these names, or any texts, and values that fit."""
    return type(rows) is list and all(
        type(row) is dict
        and (names is None or cast("dict[str, Any]", row).keys() == names)
        and all(type(key) is str and fits(value) for key, value in cast("dict[Any, Any]", row).items())
        for row in cast("list[Any]", rows)
    )


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint that was read and found undamaged.

    Args:
        folder: The folder that it was read from.
        step: The number of steps that had been made.
        training: The `training_id` of the training that was saved.
        recipe: The recipe that was saved with it, or None.
        versions: The versions of Python, torch and gankit that saved it.
        environment: What else exactness rests on, as `gankit.training.saving.environment` describes it.
        state: The state: tensors on the CPU, numbers and texts in plain containers.

    Example:
        >>> from gankit.presets import ring
        >>> from gankit.training import Checkpointer, load_newest
        >>> trainer = ring(device="cpu").fit(ring.batches(device="cpu"), steps=2)
        >>> with Checkpointer("checkpoints", every_steps=100) as checkpointer:
        ...     checkpointer.save(trainer)
        >>> again, batches = ring(device="cpu"), ring.batches(device="cpu")
        >>> load_newest("checkpoints").restore(again, batches)
        >>> again.fit(batches, steps=4).steps_done
        4
    """

    folder: Path
    step: int
    training: str
    recipe: dict[str, Any] | None
    versions: dict[str, str]
    environment: dict[str, str | int]
    state: dict[str, Any]

    def restore(self, training: Resumable, batches: Iterable[Batch] | None = None) -> None:
        """Put the state into a trainer and its callbacks. Afterwards, call `fit` with the same `batches`.

        What cannot be restored, or has changed since, is reported in one `InexactResumeWarning`. Each rank gets its own
        noise and its own place in its batches.

        Args:
            training: A trainer that was built as the one that was saved.
            batches: Batches that were made as those of the training that was saved.

        Raises:
            CheckpointError: For a trainer with other networks, optimizers or parts, or with another number of ranks.
                The trainer and its callbacks are then as they were.
        """
        ranks: list[dict[str, Any]] = self.state["ranks"]
        if training.ranks.size != len(ranks):
            raise CheckpointError(
                f"{self.folder} must hold the state of as many ranks as there are, {training.ranks.size}, got "
                f"{len(ranks)}"
            )
        own, state = ranks[training.ranks.rank], training.state
        feed, is_whole, resumed_from = training.feed, state.is_between_steps, state.resumed_from
        kept = {name: part for name, part in on_host(state.state_dict()).items() if name != "optimizers"}
        callbacks = [one for one in training.callbacks if isinstance(one, Stateful)]
        try:
            with whole_or_not_at_all(callbacks, ()):
                training.load_state_dict({**self.state["training"], "random": own["random"]})
                lost = list(self._restore_data(training, batches, own["data"]))
                lost += self._restore_callbacks(callbacks)
        except Exception as error:  # a crafted state may raise anything
            training.load_state_dict(kept)
            training.feed, state.is_between_steps, state.resumed_from = feed, is_whole, resumed_from
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{self.folder} must hold the state of a trainer like this one: {reason}") from error
        state.training_id = self.training
        for name, version in versions().items():
            if name != "python" and self.versions.get(name) != version:
                lost.append(f"it was saved with {name} {self.versions.get(name)}, this is {version}")
        if training.ranks.is_first:  # which has saved it
            feed = None if batches is None or own["data"] is None else training.feed
            lost += changes_between(self.environment, environment_of(state, feed))
        if lost:
            warn(
                f"training continues from step {self.step}, but not as if it had never stopped: {'; '.join(lost)}",
                InexactResumeWarning,
            )

    def adapted_to(self, training: Resumable, changed: Collection[str]) -> Self:
        """Return a checkpoint that fits a trainer of another recipe.

        Args:
            training: The trainer.
            changed: The names of the recipe's fields that differ. What belongs to them begins anew: see
                `TrainingState.fit_state` for optimizers, losses, regularizers and the average. Other data begin at
                their start, and further ranks with noise of their own.
        """
        ranks: list[dict[str, Any]] = self.state["ranks"]
        if "ranks" in changed:
            ranks = [ranks[0], *[training.state.rank_state_dict()] * (training.ranks.size - 1)]
        if _DATA_FIELDS & set(changed):
            ranks = [{**one, "data": None} for one in ranks]
        environment = without_data(self.environment) if _DATA_FIELDS & set(changed) else self.environment
        shared = training.state.fit_state(self.state["training"], changed)
        return replace(self, environment=environment, state={**self.state, "training": shared, "ranks": ranks})

    def _restore_data(
        self, training: Resumable, batches: Iterable[Batch] | None, state: dict[str, Any] | None
    ) -> Iterator[str]:
        if state is None:
            return
        if batches is None:
            yield "no batches were given, whose place was saved"
        else:
            lost = training.load_data_state(batches, state)
            if lost is not None:
                yield lost

    def _restore_callbacks(self, callbacks: Iterable[Stateful]) -> Iterator[str]:
        waiting: list[dict[str, Any]] = list(self.state["callbacks"])
        for callback in callbacks:
            name = type(callback).__name__
            match = next((one for one in waiting if one["name"] == name), None)
            if match is None:
                yield f"the callback {name} has no saved state"
            else:
                waiting.remove(match)
                callback.load_state_dict(match["state"])
        yield from (f"there is no callback {one['name']}, whose state was saved" for one in waiting)
