"""Folders and files that a user names, found and read so that no pipe, device or huge file holds the reader up."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from gankit.errors import DataNotFoundError


def expand_root(root: str | Path) -> Path:
    """Return the path that `root` names, with the home folder in place of `~`.

    Raises:
        DataNotFoundError: If nothing can have this name.

    Example:
        >>> expand_root("data").name
        'data'
        >>> expand_root("~nobody_of_that_name/data")
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: root must be a folder, got '~nobody_of_that_name/data': Could not determine \
home directory.
        >>> expand_root("")
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: root must be a folder, got '': the folder of this process is written '.'
    """
    try:
        if root == "":
            raise ValueError("the folder of this process is written '.'")
        path = Path(root).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataNotFoundError(f"root must be a folder, got {str(root)!r}: {reason_of(error)}") from None
    return path


def reason_of(error: Exception) -> str:
    """Return what an error says, in one line and without the file that it may name.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.png"))
        'No such file or directory'
        >>> reason_of(IndexError())
        'IndexError'
    """
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


def open_local(path: Path) -> BinaryIO:
    """Open a file for reading, through links, but no pipe or device, which may never end.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        ValueError: For something else than a file.

    Example:
        >>> open_local(Path())
        Traceback (most recent call last):
        ValueError: it is a folder
    """
    _check_kind(path.stat().st_mode)
    # without O_NONBLOCK, a pipe that took the file's place meanwhile would be waited for
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    opened = os.fdopen(descriptor, "rb")
    try:
        _check_kind(os.fstat(descriptor).st_mode)
    except ValueError:
        opened.close()
        raise
    return opened


def read_local(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file that has at most this many bytes.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        ValueError: For something else than a file, and for a larger file, of which nothing is read then.

    Example:
        >>> _ = Path("short.txt").write_text("four")
        >>> read_local(Path("short.txt"), 4)
        b'four'
        >>> read_local(Path("short.txt"), 3)
        Traceback (most recent call last):
        ValueError: it has 4 bytes, more than the 3 that are read at most
    """
    with open_local(path) as opened:
        size = os.fstat(opened.fileno()).st_size
        # a file may grow while it is read
        content = opened.read(most_bytes + 1) if size <= most_bytes else b""
    if max(size, len(content)) > most_bytes:
        raise ValueError(
            f"it has {max(size, len(content)):,} bytes, more than the {most_bytes:,} that are read at most"
        )
    return content


def _check_kind(mode: int) -> None:
    kinds = {stat.S_ISDIR: "folder", stat.S_ISFIFO: "pipe", stat.S_ISSOCK: "socket"}
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in kinds.items() if is_kind(mode)), "device")
        raise ValueError(f"it is a {kind}")
