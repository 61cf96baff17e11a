"""Threads that use one training take turns."""

from __future__ import annotations

import threading
from types import TracebackType


class Turns:
    """A lock that one thread at a time holds for the duration of a `with` block, as often as it likes.

    Copies, such as `copy.deepcopy` and `pickle` make, are free.

    Example:
        >>> turns = Turns()
        >>> with turns, turns:
        ...     pass
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()
