"""The files of a checkpoint: written so that they are on the disk, listed with size and hash, held against the list."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import torch

from gankit.version import __version__

if TYPE_CHECKING:
    pass


FORMAT = 1
NAME = re.compile(r"step_(\d{7,18})")
MANIFEST = "manifest.json"
STATE = "state.pt"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MOST_MANIFEST_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20


class DamagedError(Exception):
    """What is wrong with a checkpoint, in words."""


class Hashing:
    """A file to write to, which keeps size and hash of what was meant; an error waits until the writer is done.

    torch's writer of archives must not be interrupted by an exception.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, unless that failed before."""
        count = memoryview(data).nbytes
        self.sha256.update(data)
        self.size += count
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        return count

    def flush(self) -> None:
        """Nothing: the owner of the file flushes it."""


def write_file(path: Path, write: Callable[[Hashing], object]) -> dict[str, Any]:
    """Let `write` fill a new file, and flush it to the disk; return its size and hash."""
    with path.open("xb") as file:
        target = Hashing(file)
        write(target)
        if target.error is not None:
            raise target.error
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": target.size, "sha256": target.sha256.hexdigest()}


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    if os.name == "nt":  # which has no such thing
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> IO[bytes]:
    """Open what must be a file, and no link or pipe."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise DamagedError(f"it has no {path.name}") from None
    if not stat.S_ISREG(mode):
        raise DamagedError(f"{path.name} is not a file")
    return path.open("rb")


def check_content(file: IO[bytes], name: str, about: Mapping[str, Any]) -> None:
    """Hold a file against its line in the manifest."""
    size = os.fstat(file.fileno()).st_size
    if size != about["bytes"]:
        raise DamagedError(f"{name} has {size} bytes, not {about['bytes']}")
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    if digest.hexdigest() != about["sha256"]:
        raise DamagedError(f"the content of {name} is not what was saved")
    file.seek(0)


def manifest_bytes(form: Mapping[str, Any]) -> bytes:
    """Return a manifest's only form, with its own hash."""
    plain = json.dumps(form, indent=2)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return (json.dumps({**form, "sha256": digest}, indent=2) + "\n").encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's manifest, and hold it against itself."""
    match = NAME.fullmatch(folder.name)
    with open_regular(folder / MANIFEST) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST_MANIFEST_BYTES:
            raise DamagedError(f"{MANIFEST} has {size} bytes, more than {_MOST_MANIFEST_BYTES}")
        content = file.read(_MOST_MANIFEST_BYTES)
    try:
        form: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise DamagedError(f"{MANIFEST} cannot be read") from None
    if not isinstance(form, dict) or "sha256" not in form:
        raise DamagedError(f"{MANIFEST} lacks its own hash")
    known = cast("dict[str, Any]", form)
    del known["sha256"]
    if manifest_bytes(known) != content:  # every byte, spaces too
        raise DamagedError(f"the content of {MANIFEST} is not what was saved")
    if known.get("format") != FORMAT:
        raise DamagedError(f"its format is {known.get('format')!r}, not {FORMAT}")
    if known.keys() != {"format", "step", "versions", "recipe", "files"} or not _is_sound(known):
        raise DamagedError(f"{MANIFEST} does not describe a checkpoint")
    if match is not None and int(match[1]) != known["step"]:
        raise DamagedError(f"{MANIFEST} is of step {known['step']}")
    return known


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    step, files, versions, recipe = (manifest[name] for name in ("step", "files", "versions", "recipe"))
    if type(step) is not int or step < 0 or not isinstance(versions, dict) or not isinstance(files, dict):
        return False
    if recipe is not None and not isinstance(recipe, dict):
        return False
    for name, about in cast("dict[str, Any]", files).items():
        if not _FILE_NAME.fullmatch(name) or ".." in name:
            raise DamagedError(f"{MANIFEST} names {name!r}, which is no file in its folder")
        if not isinstance(about, dict) or cast("dict[str, Any]", about).keys() != {"bytes", "sha256"}:
            return False
    return STATE in files


def versions() -> dict[str, str]:
    """Return the versions that exact resuming depends on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "gankit": __version__}
