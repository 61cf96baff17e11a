"""Files that are whole or not there, folders that must be new, and JSON that is read within bounds."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import socket
import stat
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, Any

from gankit.errors import OutputError, OutputExistsError

LOCK_FILE = ".lock"
"""The file by which a process keeps a folder for itself; see `gankit.locks`. It does not count as content."""
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_MOST_SECONDS_OF_SILENCE = 60


def is_new(folder: Path) -> bool:
    """Return whether a folder does not exist yet or is empty.

    Example:
        >>> is_new(Path("nowhere"))
        True
    """
    return not folder.exists() or (folder.is_dir() and _is_empty(folder))


def _is_empty(folder: Path) -> bool:
    return all(path.name == LOCK_FILE for path in folder.iterdir())


def make_folder(folder: Path, what: str, *, must_be_new: bool = False) -> None:
    """Make a folder if it does not exist, and check that files can be written into it.

    Args:
        folder: The folder.
        what: What the folder is, for the errors.
        must_be_new: Whether files in it are refused. Nothing in the folder is changed then.

    Raises:
        OutputError: If the folder cannot be made or written to.
        OutputExistsError: If it must be new, and is not empty.

    Example:
        >>> make_folder(Path("new"), "the run's folder", must_be_new=True)
        >>> _ = Path("new/file").write_text("")
        >>> make_folder(Path("new"), "the run's folder", must_be_new=True)
        Traceback (most recent call last):
        gankit.errors.OutputExistsError: the run's folder must be new or empty, got 'new' with files in it; name \
another one
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = _is_empty(folder)
        if is_empty:
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise OutputError(not_writable(what, folder, error)) from error
    if must_be_new and not is_empty:
        raise OutputExistsError(f"{what} must be new or empty, got {str(folder)!r} with files in it; name another one")


def not_writable(what: str, path: Path, error: Exception) -> str:
    """Return the sentence that says that something could not be written.

    Example:
        >>> not_writable("the run's folder", Path("run/recipe.json"), OSError(28, "No space left on device"))
        "the run's folder must be writable, got 'run/recipe.json': No space left on device"
    """
    return f"{what} must be writable, got {str(path)!r}: {getattr(error, 'strerror', None) or error}"


@contextlib.contextmanager
def replacing(file: Path, what: str, *, errors: tuple[type[Exception], ...] = (OSError,)) -> Generator[Path]:
    """Yield a new temporary file to write to, and replace `file` by it once it is complete.

    A link with the name of `file` is replaced, and the file that it leads to stays as it is.

    Args:
        file: The file.
        what: What the file belongs to, for the error.
        errors: The errors of a writer that mean that the file could not be written.

    Raises:
        OutputError: If the file cannot be written, or there is a folder, a pipe or a device of this name. What was
            there before stays.

    Example:
        >>> with replacing(Path("numbers.txt"), "the folder") as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> Path("numbers.txt").read_text()
        '1 2 3'
    """
    temporary = file.with_name(f".unfinished-{file.name}")  # with the ending, from which writers take the format
    try:
        if file.exists() and not file.is_file():
            raise OSError(errno.EINVAL, "it is not a file")
        temporary.unlink(missing_ok=True)  # what another process has left behind
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o666)
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        os.close(descriptor)
        yield temporary
        temporary.chmod(mode)  # a writer may have made a file that only its owner can read
        temporary.replace(file)
    except errors as error:
        raise OutputError(not_writable(what, file, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(file: Path, content: str, what: str) -> None:
    """Write a file that is whole or not there, and flush it to the disk.

    Args:
        file: The file. One that is there is replaced.
        what: What the file belongs to, for the error.
        content: The text.

    Raises:
        OutputError: If the file cannot be written. The file that was there before stays.

    Example:
        >>> write_text(Path("notes.txt"), "one line", "the folder")
        >>> Path("notes.txt").read_text()
        'one line'
    """
    with replacing(file, what) as temporary, temporary.open("w", encoding="utf-8") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk.

    Example:
        >>> sync_folder(Path())
    """
    if os.name == "nt":  # where folders cannot be flushed
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading, and refuse links, pipes and devices: a link may lead anywhere, and a pipe may never end.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For something else than a file.

    Example:
        >>> open_regular(Path())
        Traceback (most recent call last):
        ValueError: . is not a file
    """
    return os.fdopen(_opened(path, os.O_RDONLY | _NO_FOLLOW), "rb")


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading, also where a link leads to it, and refuse pipes and devices, which may never end.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For something else than a file.

    Example:
        >>> open_file(Path())
        Traceback (most recent call last):
        ValueError: . is not a file
    """
    return os.fdopen(_opened(path, os.O_RDONLY), "rb")


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file, also where a link leads to it. Memory is taken only after its size is known.

    Args:
        path: The file.
        most_bytes: The largest size that is read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For a larger file, or something else than a file.

    Example:
        >>> _ = Path("notes.txt").write_text("one line")
        >>> read_bytes(Path("notes.txt"), most_bytes=100)
        b'one line'
        >>> read_bytes(Path("notes.txt"), most_bytes=5)
        Traceback (most recent call last):
        ValueError: notes.txt must have at most 5 bytes, got 8
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ValueError(f"{path.name} must have at most {most_bytes} bytes, got {size}")
        return file.read(size)


def append_line(file: Path, line: str, what: str) -> None:
    r"""Append a line to a file, which is made if it does not exist. A link is not followed.

    Args:
        file: The file.
        line: The line, without its end.
        what: What the file belongs to, for the error.

    Raises:
        OutputError: If the file cannot be written, or is a link, a pipe or a device.

    Example:
        >>> append_line(Path("log.txt"), "one", "the log"); append_line(Path("log.txt"), "two", "the log")
        >>> Path("log.txt").read_text()
        'one\ntwo\n'
    """
    try:
        descriptor = _opened(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_FOLLOW)
        with os.fdopen(descriptor, "a", encoding="utf-8") as opened:
            opened.write(f"{line}\n")
    except (OSError, ValueError) as error:
        raise OutputError(not_writable(what, file, error)) from error


def _opened(path: Path, flags: int) -> int:
    """Open a file, and nothing else, and return its descriptor."""
    try:
        # without waiting for the other end of a pipe
        descriptor = os.open(path, flags | _NO_WAIT | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        # a link, a folder, a pipe that nobody reads, and a socket
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise ValueError(f"{path.name or path} is not a file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path.name or path} is not a file")
    return descriptor


def parse_json(content: bytes) -> Any:
    """Return what JSON describes, and refuse what `json` would let through: a name twice, NaN and infinity.

    Raises:
        ValueError: For content that is not JSON, or nested too deeply.

    Example:
        >>> parse_json(b'{"step": 3}')
        {'step': 3}
        >>> parse_json(b'{"step": 3, "step": 4}')
        Traceback (most recent call last):
        ValueError: it has the name 'step' twice
    """
    try:
        return json.loads(content, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for name, value in pairs:
        if name in form:
            raise ValueError(f"it has the name {name[:100]!r} twice")
        form[name] = value
    return form


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it has the value {name}")


def finite_or_none(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of numbers as JSON can hold it: with None in place of each one that is NaN or infinite.

    Example:
        >>> finite_or_none({"step": 3, "loss": float("nan")})
        {'step': 3, 'loss': None}
    """
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


@contextlib.contextmanager
def limited_silence() -> Generator[None]:
    """End a download in the `with` block if the server or proxy says nothing for a minute.

    Python, and so torch and torchvision, would wait for it without end.

    Example:
        >>> with limited_silence():
        ...     socket.getdefaulttimeout()
        60.0
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_MOST_SECONDS_OF_SILENCE if before is None else before)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
