"""The folder that a user names as `root`."""

from __future__ import annotations

from pathlib import Path

from gankit.errors import DataNotFoundError, reason_of


def expand_root(root: str | Path, what: str = "a folder") -> Path:
    """Return the path that `root` names, with the home folder in place of `~`.

    Args:
        root: The path.
        what: What it must name, for the error.

    Raises:
        DataNotFoundError: If nothing can have this name.

    Example:
        >>> expand_root("data").name
        'data'
        >>> expand_root("~nobody_of_that_name/data")
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: root must be a folder, got '~nobody_of_that_name/data': Could not determine \
home directory
        >>> expand_root("")
        Traceback (most recent call last):
        gankit.errors.DataNotFoundError: root must be a folder, got '': the working folder is written '.'
    """
    try:
        if root == "":
            raise ValueError("the working folder is written '.'")
        path = Path(root).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataNotFoundError(f"root must be {what}, got {str(root)!r}: {reason_of(error)}") from None
    return path
