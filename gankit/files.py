"""Files that are whole or not there, folders that must be new, and JSON that is read within bounds."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, Any

from gankit.errors import OutputError, OutputExistsError

LOCK_FILE = ".lock"
"""The file by which a process keeps a folder for itself; see `gankit.locks`. It does not count as content."""


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
    """Yield a temporary path to write to, and replace `file` by what was written there once it is complete.

    Args:
        file: The file.
        what: What the file belongs to, for the error.
        errors: The errors of a writer that mean that the file could not be written.

    Raises:
        OutputError: If the file cannot be written. The file that was there before stays.

    Example:
        >>> with replacing(Path("numbers.txt"), "the folder") as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> Path("numbers.txt").read_text()
        '1 2 3'
    """
    temporary = file.with_name(f".{file.name}.unfinished")
    try:
        yield temporary
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
    """Open a file for reading, and refuse links and pipes: a link may lead anywhere, and a pipe may never end.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: For something else than a file.

    Example:
        >>> open_regular(Path())
        Traceback (most recent call last):
        ValueError: . is not a file
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path.name or path} is not a file")
    return path.open("rb")


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
