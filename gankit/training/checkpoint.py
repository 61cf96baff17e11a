"""Checkpoints: folders that are whole or not there, and hold everything the next step depends on.

```
checkpoints/
    step_0000100/
        state.pt         trainer, place in the batches, callbacks with a state: tensors and plain containers
        manifest.json    format, step, versions, recipe; size and SHA-256 of every other file, and of itself
    step_0000200/
```

A checkpoint is written into a folder with a temporary name, flushed to the disk, and renamed. Reading it runs no code
that it brings.
"""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self, cast

import torch
from torch import Tensor

from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointError,
    CheckpointNotFoundError,
    CheckpointWarning,
    InexactResumeWarning,
    OutputError,
    check_positive,
    warn,
)
from gankit.protocols import Batch, Stateful
from gankit.training._manifest import (
    FORMAT,
    MANIFEST,
    NAME,
    STATE,
    DamagedError,
    check_content,
    manifest_bytes,
    open_regular,
    read_manifest,
    sync_folder,
    versions,
    write_file,
)
from gankit.training.archives import PLAIN, load_plain
from gankit.training.parallel.ranks import Ranks

if TYPE_CHECKING:
    from gankit.training.trainer import AdversarialTrainer

_TEMPORARY = ".unfinished_"


class Checkpointer:
    """Save checkpoints during `fit`, without holding up the training: a callback of the trainer.

    A save copies the state in the training thread and writes the copy in another one. One write is under way at a
    time; a save that comes sooner waits for it. Use it in a `with` block, or call `flush` at the end.

    Args:
        directory: where checkpoints go; it belongs to one training. It is made where it is missing, and rests of
            interrupted writes are removed from it.
        every_steps: steps between two checkpoints.
        every_seconds: seconds between two checkpoints.
        keep_last: how many of the newest ones are kept; None for all.
        keep_every_steps: those of every so many steps are kept too.
        recipe: what the training was made from, in plain containers that JSON knows; saved with it.
        on_failure: `raise` an `OutputError` in the training thread where a checkpoint cannot be written, at the next
            step that the checkpointer is called in, or `warn` by a `CheckpointWarning` and go on without it.

    Attributes:
        directory: as given.
        every: 1 with `every_seconds`, else `every_steps`.

    Raises:
        BadValueError: for neither or impossible numbers.
        OutputError: for a directory that cannot be written.

    Example:
        >>> from gankit.presets import ring
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
        self._every_steps = every_steps
        self._every_seconds = every_seconds
        self._keep_last = keep_last
        self._keep_every_steps = keep_every_steps
        self._recipe = None if recipe is None else dict(recipe)
        self._on_failure = on_failure
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self._saved: int | None = None
        self._saved_at = time.monotonic()
        if not Ranks.present().is_first:  # which does the writing
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in self.directory.glob(f"{_TEMPORARY}*"):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:  # not made here; what a link leads to stays
                    path.unlink()
        except OSError as error:
            raise OutputError(_unwritable(self.directory, error)) from error

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Save a checkpoint if one is due; tell of an earlier one that could not be written."""
        if self._writing is not None and self._writing.done():
            self.flush()
        if self._every_seconds is not None and trainer.ranks.size > 1:
            raise BadArgumentsError("every_seconds is for one process, whose clock decides, got several ranks")
        by_steps = self._every_steps is not None and trainer.steps_done % self._every_steps == 0
        by_time = self._every_seconds is not None and time.monotonic() - self._saved_at >= self._every_seconds
        if by_steps or by_time:
            self.save(trainer)

    def save(self, trainer: AdversarialTrainer) -> None:
        """Save a checkpoint of this step now; the writing goes on behind. Of several ranks, the first one writes.

        What is NaN or infinite is not saved: a trainer that is to raise does so, any other is told by a
        `CheckpointWarning`, and the newest checkpoint stays a good one.

        Raises:
            OutputError: where an earlier one could not be written.
            NonFiniteError: for a training that is to raise it.
            BadArgumentsError: for a state that holds something else than tensors, numbers, texts and containers.
        """
        self.flush()
        complaint = trainer.complaint()
        if complaint is not None:
            if trainer.watch.policy == "raise":
                raise complaint
            warn(f"step {trainer.steps_done} is not saved: {complaint}", CheckpointWarning)
            return
        whole = trainer.state_dict()
        own = {"random": whole["random"], "data": trainer.data_state()}
        # all else is the same on every rank
        _, *others = trainer.ranks.gather(own if trainer.ranks.rank else None) or [None]
        if not trainer.ranks.is_first:
            self._saved = trainer.steps_done
            return
        state: dict[str, Any] = {
            "trainer": whole,
            "data": own["data"],
            "callbacks": [
                {"name": type(callback).__name__, "state": callback.state_dict()}
                for callback in trainer.callbacks
                if isinstance(callback, Stateful)
            ],
            "other_ranks": others,
        }
        snapshot = Snapshot(state)
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="gankit-checkpoint")
        self._writing = self._writer.submit(self._write, snapshot, trainer.steps_done)
        self._saved, self._saved_at = trainer.steps_done, time.monotonic()

    def roll_back(self, trainer: AdversarialTrainer) -> int:
        """Let a trainer go on from the newest checkpoint that is whole; return its step. Collective.

        Raises:
            CheckpointNotFoundError: where there is none.
        """
        self.flush()
        checkpoint = trainer.ranks.first(lambda: load_newest(self.directory))
        checkpoint.restore(trainer, None if trainer.feed is None else trainer.feed.batches)
        return checkpoint.step

    @property
    def saved_step(self) -> int | None:
        """The step that was saved last by this object, or None."""
        return self._saved

    def flush(self) -> None:
        """Wait until what was saved lies on the disk.

        Raises:
            OutputError: where it could not be written; what was there before is whole.
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
        """`flush`, and end the writing thread; saving again begins another one."""
        writer, self._writer = self._writer, None
        try:
            self.flush()
        finally:
            if writer is not None:
                writer.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OutputError as failure:
            if error is None:
                raise
            warn(str(failure), CheckpointWarning)  # the error that ended the block goes on

    # --- in the writing thread ---------------------------------------------------------------------------

    def _write(self, snapshot: Snapshot, step: int) -> None:
        final = self.directory / f"step_{step:07d}"
        temporary = self.directory / f"{_TEMPORARY}{final.name}_{os.getpid()}"
        replaced = temporary.with_name(f"{temporary.name}_replaced")
        try:
            temporary.mkdir()
            state = snapshot.ready()
            files = {STATE: write_file(temporary / STATE, lambda file: torch.save(state, cast(Any, file)))}
            manifest = manifest_bytes(
                {
                    "format": FORMAT,
                    "step": step,
                    "versions": versions(),
                    "recipe": self._recipe,
                    "files": files,
                }
            )
            write_file(temporary / MANIFEST, lambda file: file.write(manifest))
            sync_folder(temporary)
            if final.exists():
                final.rename(replaced)
            temporary.rename(final)
            sync_folder(self.directory)
            shutil.rmtree(replaced, ignore_errors=True)
            self._prune(step)
        except OSError as error:
            raise OutputError(_unwritable(final, error)) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _prune(self, newest: int) -> None:
        """Remove what is not to be kept; what is newer than the present step is not counted, and stays."""
        if self._keep_last is None:
            return
        older = [(step, path) for step, path in _found(self.directory) if step <= newest]
        for step, path in older[: -self._keep_last]:
            if self._keep_every_steps is None or step % self._keep_every_steps:
                removed = path.with_name(f"{_TEMPORARY}{path.name}_removed")
                path.rename(removed)  # at once, so that no half of it is found
                shutil.rmtree(removed)


class Snapshot:
    """A copy of a state, which training does not change; on a CUDA device, it is copied behind the training.

    Args:
        state: tensors, numbers and texts in plain containers.

    Raises:
        BadArgumentsError: for anything else in it, which could not be loaded without running code.

    Example:
        >>> weight = torch.zeros(1)
        >>> snapshot = Snapshot({"weight": weight, "step": 3})
        >>> _ = weight.fill_(1.0)
        >>> snapshot.ready()
        {'weight': tensor([0.]), 'step': 3}
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._events: dict[torch.device, torch.cuda.Event] = {}
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._state: dict[str, Any] = {name: self._copied(value, name) for name, value in state.items()}
        for device, stream in self._streams.items():
            self._events[device] = torch.cuda.Event()
            self._events[device].record(stream)

    def ready(self) -> dict[str, Any]:
        """Return the copy, on the host, once it is there."""
        for event in self._events.values():
            event.synchronize()
        return self._state

    def _copied(self, value: Any, where: str) -> Any:
        if isinstance(value, Tensor):
            return self._on_host(value.detach())
        if value is None or type(value) in PLAIN:
            return value
        if isinstance(value, Mapping):
            given = cast("Mapping[Any, Any]", value)
            made: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
            for key, one in given.items():
                if type(key) not in PLAIN:
                    raise BadArgumentsError(_not_plain(f"a key of {where}", key))
                made[key] = self._copied(one, f"{where}.{key}")
            if hasattr(given, "_metadata"):  # a module's state_dict: the versions of its layers' states
                made._metadata = copy.deepcopy(cast(Any, given)._metadata)  # pyright: ignore[reportAttributeAccessIssue]
            return made
        if type(value) in (list, tuple):
            copies = [self._copied(one, f"{where}[{i}]") for i, one in enumerate(cast("Iterable[Any]", value))]
            return tuple(copies) if isinstance(value, tuple) else copies
        raise BadArgumentsError(_not_plain(where, value))

    def _on_host(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != "cuda":
            return tensor.clone() if tensor.device.type == "cpu" else tensor.cpu()
        if tensor.device not in self._streams:
            self._streams[tensor.device] = torch.cuda.Stream(tensor.device)
        stream = self._streams[tensor.device]
        own = tensor.clone()
        stream.wait_stream(torch.cuda.current_stream(tensor.device))
        own.record_stream(stream)
        host = torch.empty_like(own, device="cpu", pin_memory=True)
        with torch.cuda.stream(stream):
            host.copy_(own, non_blocking=True)
        return host


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Args:
        folder: where it lies.
        step: whose state it holds.
        recipe: as it was saved, or None.
        versions: of Python, torch and gankit, when it was saved.
        state: tensors on the CPU, numbers and texts in plain containers.

    Example:
        >>> from gankit.presets import ring
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
    recipe: dict[str, Any] | None
    versions: dict[str, str]
    state: dict[str, Any]

    def restore(self, trainer: AdversarialTrainer, batches: Iterable[Batch] | None = None) -> None:
        """Let a trainer go on from here: call `fit` on the same `batches` afterwards.

        What cannot be restored is told in one `InexactResumeWarning`. Of several ranks, each takes up its own noise and
        its own place in its batches.

        Args:
            trainer: built as the one that was saved.
            batches: made as those of the training that was saved.

        Raises:
            CheckpointError: for a trainer with other networks or parts, or of another number of ranks.
        """
        others: list[dict[str, Any]] = self.state["other_ranks"]
        if trainer.ranks.size != 1 + len(others):
            raise CheckpointError(
                f"{self.folder} must hold the state of as many ranks as there are, {trainer.ranks.size}, got "
                f"{1 + len(others)}"
            )
        own = others[trainer.ranks.rank - 1] if trainer.ranks.rank else {}
        data = own.get("data", self.state["data"])
        try:
            trainer.load_state_dict({**self.state["trainer"], **({"random": own["random"]} if own else {})})
            lost = list(self._restore_data(trainer, batches, data))
            lost += self._restore_callbacks(trainer)
        except Exception as error:  # a crafted state may raise anything
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{self.folder} must hold the state of a trainer like this one: {reason}") from error
        for name, version in versions().items():
            if name != "python" and self.versions.get(name) != version:
                lost.append(f"it was saved with {name} {self.versions.get(name)}, this is {version}")
        if lost:
            warn(
                f"training goes on from step {self.step} otherwise than if it had never stopped: {'; '.join(lost)}",
                InexactResumeWarning,
            )

    def _restore_data(
        self, trainer: AdversarialTrainer, batches: Iterable[Batch] | None, state: dict[str, Any] | None
    ) -> Iterator[str]:
        if state is None:
            return
        if batches is None:
            yield "no batches were given, whose place was saved"
        else:
            lost = trainer.load_data_state(batches, state)
            if lost is not None:
                yield lost

    def _restore_callbacks(self, trainer: AdversarialTrainer) -> Iterator[str]:
        waiting: list[dict[str, Any]] = list(self.state["callbacks"])
        for callback in trainer.callbacks:
            if not isinstance(callback, Stateful):
                continue
            name = type(callback).__name__
            match = next((one for one in waiting if one["name"] == name), None)
            if match is None:
                yield f"the callback {name} has no saved state"
            else:
                waiting.remove(match)
                callback.load_state_dict(match["state"])
        yield from (f"there is no callback {one['name']}, whose state was saved" for one in waiting)


def load_newest(directory: str | Path) -> Checkpoint:
    """Read the newest checkpoint that is whole; a `CheckpointWarning` names those that were skipped, and why.

    Args:
        directory: of a `Checkpointer`.

    Raises:
        CheckpointNotFoundError: where there is none, or none that is whole.

    Example:
        >>> load_newest("nowhere")
        Traceback (most recent call last):
        gankit.errors.CheckpointNotFoundError: a folder of checkpoints must hold one, got 'nowhere' without any
    """
    found = _found(Path(directory))
    if not found:
        raise CheckpointNotFoundError(f"a folder of checkpoints must hold one, got {str(directory)!r} without any")
    skipped: list[str] = []
    for _, folder in reversed(found):
        try:
            checkpoint = load_checkpoint(folder)
        except CheckpointError as error:
            skipped.append(str(error))
            continue
        if skipped:
            warn(f"skipped for {folder.name}: {'; '.join(skipped)}", CheckpointWarning)
        return checkpoint
    raise CheckpointNotFoundError(
        f"a folder of checkpoints must hold a whole one, got {str(directory)!r} with none: {'; '.join(skipped)}"
    )


def has_checkpoints(directory: str | Path) -> bool:
    """Tell whether there are checkpoints in a directory, whole or damaged.

    Example:
        >>> has_checkpoints("nowhere")
        False
    """
    return bool(_found(Path(directory)))


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read one checkpoint, and check every byte of it before anything is made of it.

    Args:
        folder: such as `checkpoints/step_0000100`.

    Raises:
        CheckpointError: for one that is damaged, of another format, or not a checkpoint.

    Example:
        >>> load_checkpoint("nowhere")
        Traceback (most recent call last):
        gankit.errors.CheckpointError: nowhere is no whole checkpoint: it has no manifest.json
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder)
        state: dict[str, Any] = {}
        for name, about in manifest["files"].items():
            with open_regular(folder / name) as file:
                check_content(file, name, about)
                if name == STATE:
                    state = _read_state(file, manifest["step"])
    except DamagedError as error:
        raise CheckpointError(f"{folder} is no whole checkpoint: {error}") from error.__cause__
    except OSError as error:
        raise CheckpointError(f"{folder} is no whole checkpoint: {error.strerror or error}") from error
    return Checkpoint(folder, manifest["step"], manifest["recipe"], manifest["versions"], state)


# --- files -----------------------------------------------------------------------------------------------


def _read_state(file: IO[bytes], step: int) -> dict[str, Any]:
    try:
        state = load_plain(file)
    except CheckpointError as error:
        raise DamagedError(f"{STATE} {error}") from error
    if state.keys() != {"trainer", "data", "callbacks", "other_ranks"} or not _is_state(**state):
        raise DamagedError(f"{STATE} does not hold a training's state")
    if state["trainer"]["steps_done"] != step:
        raise DamagedError(f"{STATE} is of another step than {MANIFEST}")
    return state


def _is_state(trainer: Any, data: Any, callbacks: Any, other_ranks: Any) -> bool:
    own = cast("dict[str, Any]", trainer if type(trainer) is dict else {})
    return (
        type(own.get("steps_done")) is int
        and _are_dicts(own.get("history"), (int, float))
        and (data is None or type(data) is dict)
        and _are_dicts(callbacks, object)
        and all(one.keys() == {"name", "state"} for one in callbacks)
        and _are_dicts(other_ranks, (dict, type(None)))
        and all(one.keys() == {"random", "data"} for one in other_ranks)
    )


def _are_dicts(rows: Any, kinds: Any) -> bool:
    """Whether it is a list of dicts with texts for keys, and values of these kinds."""
    return type(rows) is list and all(
        type(row) is dict and all(type(key) is str and isinstance(value, kinds) for key, value in row.items())
        for row in cast("list[Any]", rows)
    )


def _found(directory: Path) -> list[tuple[int, Path]]:
    """The checkpoints in a directory, oldest first."""
    if not directory.is_dir():
        return []
    matches = [(NAME.fullmatch(path.name), path) for path in directory.iterdir()]
    return sorted((int(match[1]), path) for match, path in matches if match)


def _unwritable(path: Path, error: OSError) -> str:
    return f"the checkpoint must be writable, got {str(path)!r}: {error.strerror or error}"


def _not_plain(where: str, value: object) -> str:
    return (
        f"a state to save must hold tensors, numbers, texts, lists, tuples and dicts, got {type(value).__name__} in "
        f"{where}"
    )
