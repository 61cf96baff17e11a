"""A run's folder on the disk."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from gankit.devices import resolve_device
from gankit.errors import BadArgumentsError, GankitError, OutputError
from gankit.training import Ranks
from gankit.version import __version__


def is_new(folder: Path) -> bool:
    """Tell whether a folder is not there, or empty.

    Example:
        >>> is_new(Path("nowhere"))
        True
    """
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def writable_folder(folder: Path, what: str) -> bool:
    """Make a folder where there is none, and tell whether it is empty.

    Args:
        folder: where it is, or will be.
        what: it is, for the message.

    Raises:
        OutputError: for a folder that cannot be written.

    Example:
        >>> writable_folder(Path("new"), "the run's folder")
        True
        >>> _ = Path("new/file").write_text("")
        >>> writable_folder(Path("new"), "the run's folder")
        False
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
        if is_empty:
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise OutputError(f"{what} must be writable, got {str(folder)!r}: {error.strerror}") from error
    return is_empty


def environment(device: str | None) -> dict[str, Any]:
    """Return the versions and the hardware that a figure depends on.

    Example:
        >>> environment("cpu")["device"]
        'cpu'
    """
    place = resolve_device(device)
    hardware = torch.cuda.get_device_name(place) if place.type == "cuda" else platform.processor() or platform.machine()
    return {
        "gankit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": str(place),
        "hardware": hardware,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": Ranks.present().size,
    }


@contextlib.contextmanager
def told(what: str) -> Generator[None]:
    """Tell in one sentence that a file, which anybody may have written, does not hold what it must.

    Example:
        >>> with told("numbers.json must hold numbers"):
        ...     int("x")
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: numbers.json must hold numbers: invalid literal for int() with base 10: 'x'
    """
    try:
        yield
    except GankitError:
        raise
    except Exception as error:  # a crafted file may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadArgumentsError(f"{what}: {reason[:500]}") from error
