"""What a command prints: text that any terminal can show, to readers that may leave."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any, TextIO, cast

from gankit.errors import GankitWarning, printable


@contextlib.contextmanager
def safe_output() -> Generator[Printed]:
    r"""Replace `sys.stdout` and `sys.stderr`, so that printing never ends a command.

    Characters that the encoding lacks, or that a terminal would obey, are written as escape sequences. If a stream
    cannot be written to any longer, because its reader has left or its disk is full, the rest is dropped.

    Yields:
        What was printed to `sys.stdout`, with its first error.

    Example:
        >>> with safe_output() as printed:
        ...     print("a\x1b[2Jb")
        a\x1b[2Jb
        >>> printed.error
    """
    before = sys.stdout, sys.stderr
    streams = [Printed(cast("TextIO | None", one)) for one in before]
    sys.stdout, sys.stderr = (cast(TextIO, one) for one in streams)
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


class Printed:
    """A stream that is written to as far as it can be.

    Args:
        stream: The stream, or None if it was closed when the process began.

    Attributes:
        error: The first error of a write, or None.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: Any = stream
        self.error: OSError | None = None

    @property
    def is_lost(self) -> bool:
        """Whether something could not be written, though its reader had not left, as in `gankit list | head`."""
        return self.error is not None and not isinstance(self.error, BrokenPipeError)

    def write(self, text: str) -> int:
        """Write a text that the stream can show."""
        shown = "\r".join(map(printable, text.split("\r")))  # a progress bar returns to the start of its line
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._try("write", shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Write what is in the buffer."""
        self._try("flush")

    def _try(self, name: str, *arguments: str) -> None:
        if self._stream is None:
            return
        try:
            getattr(self._stream, name)(*arguments)
        except OSError as error:
            self.error = self.error or error
            # what is still in the buffer has to go somewhere when the process ends
            with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def warnings_in_one_line() -> Generator[None]:
    """Show a warning of gankit as one line, without the line of code that issued it, which says nothing here.

    Example:
        >>> with warnings_in_one_line():
        ...     print(warnings.formatwarning("two files are left out", GankitWarning, "main.py", 8), end="")
        gankit: warning: two files are left out
    """
    as_before = warnings.formatwarning

    def in_one_line(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if issubclass(category, GankitWarning):
            return f"gankit: warning: {message}\n"
        return as_before(message, category, filename, lineno, line)

    warnings.formatwarning = in_one_line
    try:
        yield
    finally:
        warnings.formatwarning = as_before
