"""The files of a checkpoint: flushed to the disk when written, and compared with a list of their hashes when read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from gankit.errors import CheckpointError
from gankit.files import open_regular
from gankit.version import __version__

FORMAT = 2
NAME = re.compile(r"step_(\d{7,18})")
_KEYS = {"format", "step", "training", "versions", "environment", "recipe", "files"}
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", "state.safetensors"
_MOST_MANIFEST_BYTES = 1 << 20


class DamagedError(Exception):
    """What is wrong with a checkpoint, in words."""


class OtherFormatError(CheckpointError):
    """A checkpoint has a format that another version of gankit writes."""


def write_file(path: Path, content: bytes) -> dict[str, Any]:
    """Write a new file and flush it to the disk; return its size and hash."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Write a new safetensors file and flush it to the disk; return its size and hash.

    safetensors writes the file itself, without a copy of all tensors in memory, so the hash is that of the file.
    """
    path.touch(exist_ok=False)
    save_tensors(path, tensors)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256")
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file that says that its tensors are torch's, with the rights of any new file.

    Raises:
        OSError: If the file cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        code = errno.EIO if number is None else int(number[1])
        raise OSError(code, os.strerror(code)) from error
    path.chmod(mode)  # safetensors makes a file that only its owner can read


def read_file(folder: Path, name: str, about: Mapping[str, Any]) -> bytes:
    """Return the content of a file, after a check against its entry in the manifest.

    Raises:
        DamagedError: For a file that is missing, or has another size or content.
    """
    with _opened(folder / name) as (file, size):
        if size != about["bytes"]:  # before memory is taken for it
            raise DamagedError(f"{name} has {size} bytes, not {about['bytes']}")
        content = file.read(size)
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise DamagedError(f"the content of {name} is not what was saved")
    return content


def manifest_bytes(form: Mapping[str, Any]) -> bytes:
    """Return the only form in which a manifest is written, with its own hash."""
    plain = json.dumps(form, indent=2)
    digest = hashlib.sha256(plain.encode()).hexdigest()
    return (json.dumps({**form, "sha256": digest}, indent=2) + "\n").encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's manifest, after a check against its own hash.

    Raises:
        DamagedError: For one that is missing, or is not what was written.
        OtherFormatError: For one of another format.
    """
    with _opened(folder / MANIFEST) as (file, size):
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
    if manifest_bytes(known) != content:  # every byte, including spaces
        raise DamagedError(f"the content of {MANIFEST} is not what was saved")
    if known.get("format") != FORMAT:
        raise OtherFormatError(
            f"{folder} must be a checkpoint of format {FORMAT}, got format {known.get('format')!r}: continue it with "
            "the version of gankit that saved it, or train again"
        )
    if known.keys() != _KEYS or not _is_sound(known):
        raise DamagedError(f"{MANIFEST} does not describe a checkpoint")
    match = NAME.fullmatch(folder.name)
    if match is not None and int(match[1]) != known["step"]:
        raise DamagedError(f"{MANIFEST} is of step {known['step']}")
    return known


@contextlib.contextmanager
def _opened(path: Path) -> Generator[tuple[IO[bytes], int]]:
    """Yield an open file of a checkpoint and its size in bytes."""
    try:
        file = open_regular(path)
    except FileNotFoundError:
        raise DamagedError(f"it has no {path.name}") from None
    except ValueError as error:
        raise DamagedError(str(error)) from None
    with file:
        yield file, os.fstat(file.fileno()).st_size


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    step, training, files, versions, recipe, environment = (
        manifest[name] for name in ("step", "training", "files", "versions", "recipe", "environment")
    )
    if type(step) is not int or step < 0 or not isinstance(versions, dict) or not isinstance(files, dict):
        return False
    if type(training) is not str or not isinstance(environment, dict):
        return False
    if not all(type(one) in (str, int) for one in cast("dict[str, Any]", environment).values()):
        return False
    if recipe is not None and not isinstance(recipe, dict):
        return False
    listed = cast("dict[str, Any]", files)
    return listed.keys() == {STATE, TENSORS} and all(
        isinstance(about, dict) and cast("dict[str, Any]", about).keys() == {"bytes", "sha256"}
        for about in listed.values()
    )


def versions() -> dict[str, str]:
    """Return the versions that exact resuming depends on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "gankit": __version__}
