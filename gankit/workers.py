"""What to do when a worker process of a `DataLoader` is lost, for example because memory ran out.

torch reports a lost worker in several ways. Usually a signal handler raises a `RuntimeError`, and it may do so at any
line of the main thread; a worker that dies while it hands over a tensor surfaces as a `ConnectionError` or an
`EOFError`. Everything that gankit knows about this is in this file.
"""

from __future__ import annotations

import gc
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from gankit.errors import DataError

WORKER_ERRORS = (RuntimeError, ConnectionError, EOFError)
"""The types of error by which torch may report a lost worker; each of them has other causes as well."""

RANDOM_WORKERS = (
    "the random generators of the loader's workers are not saved, so that random transforms draw other numbers; "
    "samples without them are the same"
)
"""What of a loader with workers cannot be restored in general, even where its place in the data can."""

_MOST_SIGNALS = 100
_Batch = TypeVar("_Batch")


def lost_worker_error(error: BaseException) -> DataError | None:
    """Return the `DataError` to raise when `error` reports a lost worker, and None for any other error.

    Example:
        >>> lost_worker_error(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
        DataError('the workers of a DataLoader must stay alive while it is in use, got DataLoader worker (pid 7) is \
killed by signal: Killed; the system kills them when memory runs out: use fewer num_workers, or 0 to see the original \
error')
        >>> lost_worker_error(RuntimeError("something else"))
    """
    if isinstance(error, DataError):
        is_known = error.__cause__ is not None and lost_worker_error(error.__cause__) is not None
        return error if is_known else None
    message = " ".join(str(error).split())
    if not (isinstance(error, RuntimeError) and message.startswith("DataLoader worker (pid")):
        # a worker that dies while it hands over a tensor: torch then fails in this method, with a broken connection
        functions = (frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__))
        if not isinstance(error, (ConnectionError, EOFError)) or "_try_get_data" not in functions:
            return None
        message = f"a DataLoader worker that is gone ({type(error).__name__})"
    return DataError(
        f"the workers of a DataLoader must stay alive while it is in use, got {message.rstrip('.')}; the system kills "
        "them when memory runs out: use fewer num_workers, or 0 to see the original error"
    )


def report_lost_workers(batches: Iterable[_Batch]) -> Iterator[_Batch]:
    """Yield the batches; raise a `DataError` if the loader they come from loses a worker.

    Raises:
        DataError: when a worker is lost. The error that torch raised is its cause.

    Example:
        >>> list(report_lost_workers([1, 2]))
        [1, 2]
    """
    try:
        yield from batches
    except WORKER_ERRORS as error:
        if (lost := lost_worker_error(error)) is None:
            raise
        raise lost from error


def end_workers_if_lost(error: BaseException, release_iterator: Callable[[], object]) -> DataError | None:
    """End the other workers of a loader that has lost one, and return the error to raise.

    If they were left running, torch would raise again when each of them ends.

    Args:
        error: The error that was raised. Local variables of the frames in its traceback are cleared, because they
            keep the loader's iterator alive, and with it the workers.
        release_iterator: Drops the caller's own references to the loader's iterator.

    Returns:
        The error to raise instead of `error`. For an error that does not report a lost worker this is None, and
        nothing was done.

    Example:
        >>> batches = [iter([1, 2])]
        >>> killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
        >>> type(end_workers_if_lost(killed, batches.clear)).__name__, batches
        ('DataError', [])
    """
    lost: DataError | None = None
    # torch's handler raises once for each worker that dies, even while these lines run; they then start over
    for _ in range(_MOST_SIGNALS):
        try:
            lost = lost or lost_worker_error(error)
            if lost is not None:
                _end_workers(error, release_iterator)
            return lost
        except RuntimeError as next_error:
            error = next_error
    return lost


def _end_workers(error: BaseException, release_iterator: Callable[[], object]) -> None:
    # torch listens to SIGCHLD; the workers that end here must not raise. Windows has no such signal, and only the main
    # thread may set its handler
    can_set = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    child_ended = signal.SIGCHLD if can_set else None
    handler = None if child_ended is None else signal.signal(child_ended, signal.SIG_DFL)
    try:
        link: BaseException | None = error
        while link is not None:
            traceback.clear_frames(link.__traceback__)
            link = link.__cause__ or link.__context__
        release_iterator()
        gc.collect()
    finally:
        if child_ended is not None:
            signal.signal(child_ended, handler)
