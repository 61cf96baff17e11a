"""Folders that only one process writes into at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gankit.errors import GankitWarning, OutputError, warn
from gankit.files import LOCK_FILE, make_folder, not_writable

try:
    import fcntl
except ImportError:  # on Windows, where folders are not locked
    fcntl = None

_IN_USE = (errno.EWOULDBLOCK, errno.EACCES)
_OWNER = re.compile(rb"(\d{1,10}) ([\w.-]{1,255})\n")
_held: dict[int, weakref.finalize[Any, Any]] = {}
"""What releases each lock of this process, by the descriptor of its file."""


class FolderLock:
    """Keep other processes, and the rest of this one, from writing into a folder. Use it in a `with` block.

    The lock is the system's `flock` on the file `.lock` in the folder, which holds the process's number. The system
    frees it when the process ends, even by SIGKILL. A lock of `lockf` would be lost when any part of the process opens
    and closes the file, for example to copy the folder, and it would not refuse a second lock of the same process. A
    forked process, such as a worker of a `DataLoader`, closes its copy of the file, so that it does not keep the lock
    when the process that holds it is killed.

    On NFS, Linux lets the server keep the lock, so that it holds between machines. If a file system has no locks, there
    is a `GankitWarning`, and nothing is locked; on Windows nothing is locked either.

    Args:
        folder: The folder, which is made if it does not exist.
        what: What the folder is, for the errors.
        must_be_new: Whether files in it are refused.

    Raises:
        OutputError: If the folder is in use, or cannot be made or written to.
        OutputExistsError: If it must be new, and is not empty.

    Example:
        >>> with FolderLock(Path("run"), "the run's folder"):
        ...     FolderLock(Path("run"), "the run's folder")
        Traceback (most recent call last):
        gankit.errors.OutputError: the run's folder must not be in use, got 'run', which this process writes into; \
wait until that has ended, or name another one
    """

    def __init__(self, folder: Path, what: str, *, must_be_new: bool = False) -> None:
        make_folder(folder, what, must_be_new=must_be_new)
        file = folder.absolute() / LOCK_FILE
        self._finalizer: weakref.finalize[Any, Any] | None = None
        try:
            descriptor = _locked(file)
        except _NotLockedError as error:
            if error.owner is None:
                warn(
                    f"{what} {str(folder)!r} cannot be locked, because its file system has no locks ({error}): make "
                    "sure that no other process writes into it",
                    GankitWarning,
                )
                return
            raise OutputError(
                f"{what} must not be in use, got {str(folder)!r}, which {error.owner} writes into; wait until that has "
                "ended, or name another one"
            ) from None
        except OSError as error:
            raise OutputError(not_writable(what, folder / LOCK_FILE, error)) from error
        if descriptor is None:
            return
        self._finalizer = _held[descriptor] = weakref.finalize(self, _release, file, descriptor)
        try:
            make_folder(folder, what, must_be_new=must_be_new)  # another process may have filled it meanwhile
        except OutputError:
            self.release()
            raise

    def release(self) -> None:
        """Let others write into the folder."""
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class _NotLockedError(Exception):
    """A file is locked already, by `owner`, or cannot be locked, if that is None."""

    def __init__(self, error: OSError, owner: str | None) -> None:
        super().__init__(error.strerror)
        self.owner = owner


def _locked(file: Path) -> int | None:
    """Make and lock a file, and return its descriptor; None on Windows."""
    while fcntl is not None:
        # a link or a pipe, which the folder of somebody else may contain, is not followed or waited for
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a file")
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                owner = _owner(descriptor) if error.errno in _IN_USE else None
                if owner is None:
                    file.unlink(missing_ok=True)
                raise _NotLockedError(error, owner) from None
            if _is_at(file, descriptor):
                with contextlib.suppress(OSError):  # the disk may be full
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held the lock has just removed the file
    return None


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _owner(descriptor: int) -> str:
    match = _OWNER.fullmatch(os.pread(descriptor, 300, 0))
    if match is None:
        return "another process"
    process, machine = match[1].decode(), match[2].decode(errors="replace")
    if machine != socket.gethostname():
        return f"process {process} on {machine}"
    return "this process" if int(process) == os.getpid() else f"process {process}"


def _release(file: Path, descriptor: int) -> None:
    _held.pop(descriptor, None)
    with contextlib.suppress(OSError):
        if _is_at(file, descriptor):
            file.unlink()
    os.close(descriptor)


def _forget() -> None:
    """Give up the locks in a process that was forked: they are those of the process that forked it."""
    for descriptor, finalizer in _held.items():
        finalizer.detach()
        os.close(descriptor)
    _held.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_forget)
