"""`Checkpointer`: saves checkpoints during training, without holding it up."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from gankit.errors import BadArgumentsError, BadValueError, CheckpointWarning, OutputError, check_positive, warn
from gankit.files import not_writable, sync_folder
from gankit.locks import FolderLock
from gankit.training.parallel.ranks import Ranks
from gankit.training.saving.checkpoint import Resumable, whole_state
from gankit.training.saving.environment import environment_of
from gankit.training.saving.folder import check_same_training, find_checkpoints, load_newest, write_checkpoint
from gankit.training.saving.snapshot import Snapshot

_TEMPORARY = ".unfinished_"
_open_checkpointers: weakref.WeakValueDictionary[Path, Checkpointer] = weakref.WeakValueDictionary()
"""The newest checkpointer of each folder in this process."""


class FindsBestStep(Protocol):
    """A callback that knows which step of a training is the best one so far, such as `Evaluate`."""

    @property
    def every(self) -> int:
        """The number of steps between two steps that can be the best one."""
        ...

    @property
    def best_step(self) -> int | None:
        """The best step so far, or None."""
        ...


class Checkpointer:
    """Save checkpoints during `fit`, without holding up the training: a callback of the trainer.

    A save copies the state in the training thread, and writes the copy in another one, into a folder with a temporary
    name that is flushed to the disk and renamed. Only one write is under way at a time: the next save waits for it. Use
    the checkpointer in a `with` block, or call `close` at the end.

    Until then, the folder is locked (`gankit.locks.FolderLock`), so that no other process can write into it. A new
    checkpointer of the same process closes an earlier one of the same folder, so that a cell of a notebook can be run
    twice.

    Args:
        directory: The folder of the checkpoints, which belongs to one training: one that was not continued from a
            checkpoint in it is refused when `fit` begins, before anything is written. It is made if it does not exist,
            and what interrupted writes have left in it is removed.
        every_steps: The number of steps between two checkpoints.
        every_seconds: The number of seconds between two checkpoints.
        keep_last: How many of the newest checkpoints are kept. None keeps all.
        keep_every_steps: Checkpoints of every so many steps are kept as well.
        keep_best: A callback such as `Evaluate`, whose best step is saved and kept as well. It must come before the
            checkpointer among the trainer's callbacks, so that its history is saved with the step.
        recipe: What the training was made from, in plain containers that JSON can hold. It is saved with the state.
        on_failure: What happens if a checkpoint cannot be written. `raise` an `OutputError` in the training thread,
            the next time that the checkpointer is called, or `warn` by a `CheckpointWarning` and continue without it.

    Attributes:
        directory: As given.
        every: The number of steps between two calls: 1 with `every_seconds`; with `keep_best` the largest number of
            which both distances are multiples; and `every_steps` otherwise.

    Raises:
        BadValueError: For neither `every_steps` nor `every_seconds`, or a number that is out of range.
        OutputError: For a folder that cannot be written to, or that another process writes into. With several ranks, it
            is raised on each of them when `fit` begins.

    Example:
        >>> from gankit.presets import ring
        >>> from gankit.training import load_newest
        >>> with Checkpointer("checkpoints", every_steps=2) as checkpointer:
        ...     _ = ring(device="cpu", callbacks=[checkpointer]).fit(ring.batches(device="cpu"), steps=4)
        >>> load_newest("checkpoints").step
        4
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        every_steps: int | None = None,
        every_seconds: float | None = None,
        keep_last: int | None = 2,
        keep_every_steps: int | None = None,
        keep_best: FindsBestStep | None = None,
        recipe: Mapping[str, Any] | None = None,
        on_failure: Literal["raise", "warn"] = "raise",
    ) -> None:
        if every_steps is None and every_seconds is None:
            raise BadValueError("every_steps or every_seconds must be given, got neither")
        for name, value in (
            ("every_steps", every_steps),
            ("every_seconds", every_seconds),
            ("keep_last", keep_last),
            ("keep_every_steps", keep_every_steps),
        ):
            if value is not None:
                check_positive(name, value)
        if on_failure not in ("raise", "warn"):
            raise BadValueError(f"on_failure must be 'raise' or 'warn', got {on_failure!r}")
        self.directory: Path = Path(directory)
        self.every: int = 1 if every_steps is None or every_seconds is not None else every_steps
        if keep_best is not None:
            self.every = math.gcd(self.every, keep_best.every)
        self._keep_best = keep_best
        self._every_steps = every_steps
        self._every_seconds = every_seconds
        self._keep_last = keep_last
        self._keep_every_steps = keep_every_steps
        self._recipe = None if recipe is None else dict(recipe)
        self._on_failure = on_failure
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self._saved: int | None = None
        self._checked_for: str | None = None
        self._saved_at = time.monotonic()
        self._lock: FolderLock | None = None
        self._refusal: OutputError | None = None
        if Ranks.present().is_first:  # only rank 0 writes
            try:
                self._take_folder()
            except OutputError as error:
                if Ranks.present().size == 1:
                    raise
                self._refusal = error  # raised on every rank when `fit` begins, so that none waits for this one

    def _take_folder(self) -> None:
        """Lock the folder, and remove what interrupted writes have left in it."""
        earlier = _open_checkpointers.get(self.directory.resolve())
        if earlier is not None:
            try:
                earlier.close()
            except OutputError as error:
                warn(str(error), CheckpointWarning)
        self._lock = FolderLock(self.directory, "the folder of the checkpoints")
        _open_checkpointers[self.directory.resolve()] = self
        try:
            for path in self.directory.glob(f"{_TEMPORARY}*"):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:  # not made here; what a link leads to stays
                    path.unlink()
        except OSError as error:
            raise OutputError(not_writable("the checkpoint", self.directory, error)) from error

    def begin_fit(self, trainer: Resumable) -> None:
        """Refuse a folder that holds the checkpoints of another training.

        Raises:
            CheckpointError: For such a folder.
        """
        training = trainer.state.training_id
        if self._checked_for != training:
            trainer.ranks.first(lambda: self._check_folder(training))
            self._checked_for = training

    def _check_folder(self, training: str) -> None:
        if self._refusal is not None:
            raise self._refusal
        check_same_training(self.directory, training)

    def __call__(self, trainer: Resumable) -> None:
        """Save a checkpoint if one is due, and report an earlier one that could not be written."""
        if self._writing is not None and self._writing.done():
            self.flush()
        if self._every_seconds is not None and trainer.ranks.size > 1:
            raise BadArgumentsError(
                "every_seconds is for a single process, because the clocks of several ranks differ, got several ranks"
            )
        by_steps = self._every_steps is not None and trainer.steps_done % self._every_steps == 0
        by_time = self._every_seconds is not None and time.monotonic() - self._saved_at >= self._every_seconds
        if by_steps or by_time or self._is_best(trainer):
            self.save(trainer)

    def _is_best(self, trainer: Resumable) -> bool:
        """Return whether the present step was found to be the best one, which only rank 0 knows. This is collective."""
        finder = self._keep_best
        if finder is None or trainer.steps_done % finder.every:
            return False
        return trainer.ranks.first(lambda: finder.best_step == trainer.steps_done)

    def save(self, trainer: Resumable) -> None:
        """Save a checkpoint of the present step. It is written in the background, by rank 0.

        A state that is NaN or infinite is not saved, so that the newest checkpoint stays a good one: a trainer whose
        policy is `raise` raises, and any other gets a `CheckpointWarning`.

        Raises:
            OutputError: If an earlier checkpoint could not be written.
            CheckpointError: In the middle of a step, or for a folder with checkpoints of another training.
            NonFiniteError: For a state that is not finite, with the policy `raise`.
            BadArgumentsError: For a state that holds something else than tensors, numbers, texts and containers.
        """
        self.flush()
        self.begin_fit(trainer)
        complaint = trainer.complaint()
        if complaint is not None:
            if trainer.watch.policy == "raise":
                raise complaint
            warn(f"step {trainer.steps_done} is not saved: {complaint}", CheckpointWarning)
            return
        state = whole_state(trainer)
        if state is not None:
            snapshot = Snapshot(state)
            if self._lock is None:  # it was closed
                self._lock = FolderLock(self.directory, "the folder of the checkpoints")
            if self._writer is None:
                self._writer = ThreadPoolExecutor(1, thread_name_prefix="gankit-checkpoint")
            self._writing = self._writer.submit(
                self._write,
                snapshot,
                trainer.steps_done,
                trainer.state.training_id,
                environment_of(trainer.state, trainer.feed),
                None if self._keep_best is None else self._keep_best.best_step,
            )
            self._saved_at = time.monotonic()
        self._saved = trainer.steps_done

    def roll_back(self, trainer: Resumable) -> int:
        """Let a trainer continue from the newest undamaged checkpoint, and return its step. This is collective.

        Raises:
            CheckpointNotFoundError: If there is none.
            CheckpointError: If it is of another training.
        """
        self.flush()
        self.begin_fit(trainer)
        checkpoint = trainer.ranks.first(lambda: load_newest(self.directory))
        # rates that a schedule or an earlier return has changed are not settings that this would silently replace
        training = {name: part for name, part in checkpoint.state["training"].items() if name != "optimizers"}
        checkpoint = dataclasses.replace(checkpoint, state={**checkpoint.state, "training": training})
        checkpoint.restore(trainer, None if trainer.feed is None else trainer.feed.batches)
        return checkpoint.step

    @property
    def saved_step(self) -> int | None:
        """The step that was saved last by this object, or None."""
        return self._saved

    def flush(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            OutputError: If it could not be written. The checkpoints that were there before are whole.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except OutputError as error:
            self._saved = None
            if self._on_failure == "raise":
                raise
            warn(str(error), CheckpointWarning)

    def close(self) -> None:
        """Call `flush`, end the writing thread, and let others write into the folder. Another save begins again."""
        writer, self._writer = self._writer, None
        try:
            self.flush()
        finally:
            if writer is not None:
                writer.shutdown()
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()

    def __getstate__(self) -> dict[str, Any]:
        if self._lock is not None or self._writer is not None:
            raise BadArgumentsError(
                "a Checkpointer must be closed before it is copied or pickled, got one that holds its folder"
            )
        return vars(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:  # anything that the writing thread has raised
            if error is None:
                raise
            warn(str(failure), CheckpointWarning)  # the error that ended the block is raised

    # --- in the writing thread -------------------------------------------------------------------------------

    def _write(
        self, snapshot: Snapshot, step: int, training: str, environment: Mapping[str, str | int], best: int | None
    ) -> None:
        final = self.directory / f"step_{step:07d}"
        temporary = self.directory / f"{_TEMPORARY}{final.name}_{os.getpid()}"
        replaced = temporary.with_name(f"{temporary.name}_replaced")
        try:
            write_checkpoint(temporary, snapshot.ready(), step, training, environment, self._recipe)
            if final.is_symlink():
                final.unlink()
            elif final.exists():
                final.rename(replaced)
            temporary.rename(final)
            sync_folder(self.directory)
            shutil.rmtree(replaced, ignore_errors=True)
            self._prune(step, best)
        except OSError as error:
            raise OutputError(not_writable("the checkpoint", final, error)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _prune(self, newest: int, best: int | None) -> None:
        """Remove the checkpoints that are not kept; those of later steps are neither counted nor removed."""
        if self._keep_last is None:
            return
        older = [(step, path) for step, path in find_checkpoints(self.directory) if step <= newest]
        for step, path in older[: -self._keep_last]:
            if step != best and (self._keep_every_steps is None or step % self._keep_every_steps):
                removed = path.with_name(f"{_TEMPORARY}{path.name}_removed")
                path.rename(removed)  # first, so that no half of it is ever found
                shutil.rmtree(removed)
