"""The folder of a run: its lock, what it records about its environment, and how errors in its files are reported."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from gankit.devices import resolve_device
from gankit.errors import BadArgumentsError, GankitError
from gankit.locks import FolderLock
from gankit.training import Ranks
from gankit.version import __version__


def environment(device: str | None) -> dict[str, Any]:
    """Return the versions and the hardware on which figures depend.

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
def refused_with(message: str) -> Generator[None]:
    """Turn every error that is not gankit's own into a `BadArgumentsError` of one sentence.

    It is for reading files that anybody may have written.

    Args:
        message: What the file must hold. The reason follows after a colon.

    Example:
        >>> with refused_with("numbers.json must hold numbers"):
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
        raise BadArgumentsError(f"{message}: {reason[:500]}") from error


@contextlib.contextmanager
def locked_folder(folder: Path, ranks: Ranks, *, must_be_new: bool = False) -> Generator[None]:
    """Make a run's folder and keep other processes from writing into it, which rank 0 does for all ranks.

    Raises:
        OutputError: On every rank, if the folder is in use or cannot be written to.
        OutputExistsError: On every rank, if it must be new and is not empty.

    Example:
        >>> with locked_folder(Path("run"), Ranks()):
        ...     Path("run").is_dir()
        True
    """
    with contextlib.ExitStack() as stack:

        def lock() -> None:
            stack.enter_context(FolderLock(folder, "the run's folder", must_be_new=must_be_new))

        ranks.first(lock)
        yield
