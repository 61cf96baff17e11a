"""What Ctrl-C, SIGTERM and a terminal that closes do to a command that trains."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Generator
from typing import Any, Protocol


class Stoppable(Protocol):
    """Anything that can end early, such as a `Run` or a `Comparison`."""

    def stop(self) -> None:
        """End soon; this is called by a signal handler."""
        ...


class TerminatedError(KeyboardInterrupt):
    """The signal that aborted the command was SIGTERM."""


@contextlib.contextmanager
def stop_on_signal(work: Stoppable, when: str = "after this step", *, is_quiet: bool = False) -> Generator[list[int]]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP end the work cleanly, and a second Ctrl-C or SIGTERM abort it.

    The default action of SIGTERM and SIGHUP would end the process at once, without a save. A terminal that closes sends
    SIGHUP, often more than once, so the later ones are ignored. Under `nohup`, all of them are.

    Args:
        work: What is stopped.
        when: When it ends, for the message.
        is_quiet: Print no message.

    Yields:
        A list that is empty while there was no signal, and holds the number of the first one afterwards.

    Example:
        >>> class Work:
        ...     def stop(self): print("stopped")
        >>> with stop_on_signal(Work(), is_quiet=True) as received:
        ...     signal.raise_signal(signal.SIGTERM)
        stopped
        >>> received == [signal.SIGTERM]
        True
    """
    received: list[int] = []
    previous_handlers: dict[int, Any] = {}

    def abort(number: int, frame: Any) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        for one in previous_handlers:
            signal.signal(one, signal.SIG_IGN if one == hang_up else abort)
        # a terminal that has closed may send SIGHUP again, which aborts nothing
        again: dict[int, str] = {signal.SIGINT: "Ctrl-C again to abort", signal.SIGTERM: "the signal again to abort"}
        if not is_quiet:
            print(f"\nstopping {when}; {again.get(number, 'Ctrl-C or SIGTERM aborts')}", file=sys.stderr)
        work.stop()

    hang_up = getattr(signal, "SIGHUP", None)  # not on Windows
    if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:
        previous_handlers[hang_up] = signal.signal(hang_up, stop)
    for number in (signal.SIGINT, signal.SIGTERM):
        previous_handlers[number] = signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
