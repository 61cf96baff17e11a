"""Checkpoints in folders: written whole, found, and read after a check of every byte.

```
checkpoints/
    step_0000100/
        state.safetensors    every tensor of the state
        state.json           everything else, and where each tensor belongs
        manifest.json        format, step, training, versions, environment, recipe; size and SHA-256 of the other files
                             and of itself
    step_0000200/
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors  # pyright: ignore[reportUnknownVariableType]

from gankit.errors import CheckpointError, CheckpointNotFoundError, CheckpointWarning, warn
from gankit.files import parse_json, sync_folder
from gankit.training.saving.checkpoint import Checkpoint, is_state
from gankit.training.saving.manifest import (
    FORMAT,
    MANIFEST,
    NAME,
    STATE,
    TENSORS,
    DamagedError,
    OtherFormatError,
    manifest_bytes,
    read_file,
    read_manifest,
    versions,
    write_file,
    write_tensors,
)
from gankit.training.saving.tree import TreeError, flatten, unflatten


def write_checkpoint(
    folder: Path,
    state: Mapping[str, Any],
    step: int,
    training: str,
    environment: Mapping[str, str | int],
    recipe: Mapping[str, Any] | None,
) -> None:
    """Write the files of a checkpoint into a folder, and flush them to the disk.

    Args:
        folder: A folder, which is made.
        state: What `whole_state` returned, with tensors on the CPU that nothing changes.
        step: The number of steps that have been made.
        training: The `training_id` of the training.
        environment: What is compared when the training is resumed.
        recipe: What the training was made from, in plain containers that JSON can hold.

    Raises:
        OSError: If the files cannot be written.
    """
    folder.mkdir()
    node, tensors = flatten(state)
    files = {
        TENSORS: write_tensors(folder / TENSORS, tensors),
        STATE: write_file(folder / STATE, json.dumps(node, separators=(",", ":")).encode()),
    }
    form = {
        "format": FORMAT,
        "step": step,
        "training": training,
        "versions": versions(),
        "environment": environment,
        "recipe": recipe,
        "files": files,
    }
    write_file(folder / MANIFEST, manifest_bytes(form))
    sync_folder(folder)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read one checkpoint, after a check of every byte of it. No code from its files is executed.

    Args:
        folder: The folder of the checkpoint, such as `checkpoints/step_0000100`.

    Raises:
        CheckpointError: For one that is damaged, of another format, or not a checkpoint.

    Example:
        >>> load_checkpoint("nowhere")
        Traceback (most recent call last):
        gankit.errors.CheckpointError: nowhere is not a whole checkpoint: it has no manifest.json
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder)
        node = read_file(folder, STATE, manifest["files"][STATE])
        tensors = read_file(folder, TENSORS, manifest["files"][TENSORS])
        state = _read_state(node, tensors, manifest["step"])
    except DamagedError as error:
        raise CheckpointError(f"{folder} is not a whole checkpoint: {error}") from error.__cause__
    except OSError as error:
        raise CheckpointError(f"{folder} is not a whole checkpoint: {error.strerror or error}") from error
    return Checkpoint(
        folder,
        manifest["step"],
        manifest["training"],
        manifest["recipe"],
        manifest["versions"],
        manifest["environment"],
        state,
    )


def load_newest(directory: str | Path) -> Checkpoint:
    """Read the newest undamaged checkpoint. A `CheckpointWarning` names those that were skipped, and why.

    Args:
        directory: The folder of a `Checkpointer`.

    Raises:
        CheckpointNotFoundError: If there is none, or all of them are damaged.
        CheckpointError: If the newest one has the format of another version of gankit.

    Example:
        >>> load_newest("nowhere")
        Traceback (most recent call last):
        gankit.errors.CheckpointNotFoundError: a folder of checkpoints must hold one, got 'nowhere' without any
    """
    found = find_checkpoints(Path(directory))
    if not found:
        raise CheckpointNotFoundError(f"a folder of checkpoints must hold one, got {str(directory)!r} without any")
    skipped: list[str] = []
    for _, folder in reversed(found):
        try:
            checkpoint = load_checkpoint(folder)
        except OtherFormatError:
            raise
        except CheckpointError as error:
            skipped.append(str(error))
            continue
        if skipped:
            warn(f"skipped for {folder.name}: {'; '.join(skipped)}", CheckpointWarning)
        return checkpoint
    raise CheckpointNotFoundError(
        f"a folder of checkpoints must hold a whole one, got {str(directory)!r} with none: {'; '.join(skipped)}"
    )


def has_checkpoints(directory: str | Path) -> bool:
    """Return whether there are checkpoints in a folder, damaged ones included.

    Example:
        >>> has_checkpoints("nowhere")
        False
    """
    return bool(find_checkpoints(Path(directory)))


def check_same_training(directory: Path, training: str) -> None:
    """Raise `CheckpointError` if a folder holds a checkpoint of another training. Damaged ones are left out.

    Args:
        directory: The folder of a `Checkpointer`.
        training: The `training_id` of the training that wants to save there.

    Example:
        >>> check_same_training(Path("nowhere"), "a3")
    """
    for _, folder in find_checkpoints(directory):
        try:
            is_other = read_manifest(folder)["training"] != training
        except OtherFormatError:
            is_other = True
        except (DamagedError, OSError):
            is_other = False
        if is_other:
            raise CheckpointError(
                f"{directory} must hold the checkpoints of one training, got {folder.name} of another one; name "
                "another folder, or continue that training with load_newest(...).restore(...) first"
            )


def find_checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """Return the steps and folders of the checkpoints in a folder, oldest first.

    A file, a link, or a folder without any file of a checkpoint in it only has the name of one.

    Example:
        >>> find_checkpoints(Path("nowhere"))
        []
    """
    if not directory.is_dir():
        return []
    matches = [(NAME.fullmatch(path.name), path) for path in directory.iterdir()]
    return sorted((int(match[1]), path) for match, path in matches if match and _has_parts(path))


def _has_parts(folder: Path) -> bool:
    if folder.is_symlink():  # which would be renamed and removed with a folder elsewhere in its place
        return False
    try:
        return not {MANIFEST, STATE, TENSORS}.isdisjoint(path.name for path in folder.iterdir())
    except NotADirectoryError:
        return False
    except OSError:  # it may not be read, which reading it reports
        return True


def _read_state(node: bytes, tensors: bytes, step: int) -> dict[str, Any]:
    """Return the state that two files hold, after a check that it is one."""
    try:
        state: Any = unflatten(parse_json(node), load_tensors(tensors))
    except TreeError as error:
        raise DamagedError(f"{STATE} does not hold a training's state: {error}") from error
    except SafetensorError as error:
        raise DamagedError(f"{TENSORS} cannot be read: {' '.join(str(error).split())[:500]}") from error
    except Exception as error:  # crafted files may raise anything
        raise DamagedError(f"{STATE} cannot be read: {' '.join(str(error).split())[:500]}") from error
    if not is_state(state):
        raise DamagedError(f"{STATE} does not hold a training's state")
    if state["training"]["steps_done"] != step:
        raise DamagedError(f"{STATE} is of another step than {MANIFEST}")
    return cast("dict[str, Any]", state)
