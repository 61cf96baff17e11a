"""Reading what `torch.save` made of a state, and nothing that it cannot have made.

`torch.load(weights_only=True)` runs no code of a file. A crafted one can still end the process, by tuples nested so
deeply that hashing them overflows the stack, or fill the memory, by a `bytearray` of any size or a tensor that is
larger than its storage. So the archive is looked at before torch reads it, and what torch made of it afterwards.
"""

from __future__ import annotations

import os
import pickletools
import struct
import zipfile
from collections import OrderedDict
from typing import IO, Any, cast

import torch
from torch import Tensor

from gankit.errors import CheckpointError

PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
"""What a state holds beside tensors, dicts, lists and tuples."""

_CONTAINERS = (dict, OrderedDict, list, tuple)
_NAMED = {  # what tensors, bytes and numbers are rebuilt by; of `torch` itself, what torch lets through
    "collections OrderedDict",
    "_codecs encode",
    "__builtin__ complex",
    "builtins complex",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch.storage UntypedStorage",
}
_MAKING = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
_DEEPEST = 100
_END, _WIDE_END = 22, 98  # bytes that end an archive, without and with the record for large files


def load_plain(file: IO[bytes]) -> dict[str, Any]:
    """Return the dict that `torch.save` wrote into a file, of tensors, numbers, texts and containers.

    Args:
        file: to read from; memory is taken in proportion to its size.

    Raises:
        CheckpointError: for a file that is anything else; the message goes on after its name.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> torch.save({"weight": torch.zeros(2)}, file)
        >>> load_plain(file)
        {'weight': tensor([0., 0.])}
        >>> load_plain(io.BytesIO(b"PK"))
        Traceback (most recent call last):
        gankit.errors.CheckpointError: does not load without running code from it: File is not a zip file
    """
    size = file.seek(0, os.SEEK_END)
    try:
        _check_archive(file, size)
        file.seek(0)
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # a crafted file may raise anything
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"does not load without running code from it: {reason}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError("does not hold a training's state")
    state = cast("dict[str, Any]", loaded)
    _check_plain(state, size)
    return state


def _check_archive(file: IO[bytes], size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        # torch stores without compressing: what is larger inside than outside is not from it
        is_stored = all(e.compress_type == zipfile.ZIP_STORED and e.file_size == e.compress_size for e in entries)
        if not is_stored or sum(e.file_size for e in entries) > size:
            raise CheckpointError("is a compressed archive")
        if len({e.filename.casefold() for e in entries}) < len(entries):
            raise CheckpointError("is an archive with two files of one name")
        _check_end(file, size)
        pickles = [e for e in entries if e.filename.casefold().endswith(".pkl")]
        if len(pickles) != 1:  # one with constants.pkl is a program
            raise CheckpointError("is not an archive as torch writes it")
        _check_pickle(archive.read(pickles[0]))


def _check_end(file: IO[bytes], size: int) -> None:
    """Refuse an archive whose end can be read in two ways: torch's reader may then see other files than Python's."""
    file.seek(max(0, size - _WIDE_END))
    end = file.read(_WIDE_END)
    is_wide = end[-42:-38] == b"PK\x06\x07"
    begins = size - (_WIDE_END if is_wide else _END)
    length, offset = struct.unpack("<QQ", end[40:56]) if is_wide else struct.unpack("<II", end[-10:-2])
    is_sound = end[-_END:-18] == b"PK\x05\x06" and end[-2:] == bytes(2) and offset + length == begins
    if is_wide:
        is_sound = is_sound and end[:4] == b"PK\x06\x06" and struct.unpack("<Q", end[-34:-26]) == (begins,)
    if not is_sound:
        raise CheckpointError("is not an archive as torch writes it")


def _check_pickle(content: bytes) -> None:
    """Follow a pickle without making anything: what it names, and how deeply its tuples are nested."""
    stack: list[Any] = []  # how deep each value is, None for a mark; what cannot be hashed counts as flat
    memo: dict[Any, Any] = {}
    for code, argument, _ in pickletools.genops(content):
        name = code.name
        if name in _MAKING or (name == "GLOBAL" and argument not in _NAMED and not str(argument).startswith("torch ")):
            raise CheckpointError(f"does not load without running code from it: it names {argument or name}")
        if "PUT" in name:
            memo[argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(None)
        else:
            before, taken = code.stack_before, list[Any]()
            if pickletools.markobject in before:
                while (one := stack.pop()) is not None:
                    taken.append(one)
                before = before[: before.index(pickletools.markobject)]
            taken += [stack.pop() for _ in before]
            depth = 1 + max(taken, default=0) if name.startswith("TUPLE") else 0
            if depth > _DEEPEST:
                raise CheckpointError("is nested too deeply")
            stack += [depth] * len(code.stack_after)


def _check_plain(loaded: object, most_bytes: int) -> None:
    """Refuse what no saved state holds; every container is in one place, so that copying it takes no more memory."""
    waiting: list[tuple[Any, int]] = [(loaded, 0)]
    seen: set[int] = set()
    total = 0
    while waiting:
        value, depth = waiting.pop()
        if type(value) is Tensor and value.layout == torch.strided and value.device.type == "cpu":
            total += value.numel() * value.element_size()
            if total > most_bytes:
                raise CheckpointError("holds tensors that are larger than the file")
        elif type(value) in _CONTAINERS:
            if depth > _DEEPEST:
                raise CheckpointError("is nested too deeply")
            if value and id(value) in seen:
                raise CheckpointError("holds one container in two places")
            seen.add(id(value))
            if isinstance(value, dict):
                form = cast("dict[Any, Any]", value)
                waiting += [(one, depth + 1) for key, one in form.items() if _check_leaf(key) is None]
            else:
                waiting += [(one, depth + 1) for one in value]
        else:
            _check_leaf(value)


def _check_leaf(value: object) -> None:
    if value is not None and type(value) not in PLAIN:
        raise CheckpointError(f"holds a {type(value).__name__}, which no saved state does")
