"""Arrays of numbers from files in the IDX, NPZ, NPY or CSV format, which their first bytes tell apart."""

from __future__ import annotations

import io
import itertools
import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from gankit.data.idx import MOST_BYTES, read_idx
from gankit.errors import DataError, DataNotFoundError, MissingExtraError, reason_of
from gankit.files import open_file

TABLE = "table"
"""The name of the array that a CSV file holds."""

_LONGEST_FIRST_LINE = 1 << 22
_MOST_ARRAYS = 1000


def read_arrays(file: Path) -> dict[str, Tensor]:
    r"""Return the arrays of a file by name.

    The array of a CSV file is called `TABLE`, and one in the IDX or NPY format `""`. Nothing is unpickled, and memory
    is taken only for as many numbers as the file can hold.

    Raises:
        DataNotFoundError: If there is no such file.
        DataError: If the file cannot be read, or is in none of the formats.

    Example:
        >>> _ = Path("numbers.csv").write_text("label,pixel\n3,200\n")
        >>> read_arrays(Path("numbers.csv"))
        {'table': tensor([[  3., 200.]])}
    """
    try:
        with open_file(file) as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(0)
            start = opened.read(4)
            opened.seek(0)
            if start[:2] in (b"\0\0", b"\x1f\x8b"):
                return {"": read_idx(opened, repr(str(file))).values}
            if size > MOST_BYTES:
                raise ValueError(f"it has {size} bytes, more than the {MOST_BYTES} that are read at most")
            if start == b"PK\3\4":
                return _read_npz(opened)
            if start == b"\x93NUM":
                return {"": _read_npy(opened, size)}
            return {TABLE: _read_csv(opened)}
    except (DataError, MissingExtraError):
        raise
    except FileNotFoundError:
        raise DataNotFoundError(f"a file of numbers was expected, got {str(file)!r}, which does not exist") from None
    except Exception as error:  # a crafted file may raise anything
        raise DataError(f"{str(file)!r} must contain numbers as IDX, NPZ, NPY or CSV: {reason_of(error)}") from error


def _read_npz(opened: IO[bytes]) -> dict[str, Tensor]:
    with zipfile.ZipFile(opened) as archive:
        members = [one for one in archive.infolist() if one.filename.endswith(".npy")]
        if len(members) > _MOST_ARRAYS or sum(one.file_size for one in members) > MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_ARRAYS} arrays or {MOST_BYTES} bytes")
        arrays: dict[str, Tensor] = {}
        for one in members:
            with archive.open(one) as member:
                arrays[one.filename.removesuffix(".npy")] = _read_npy(member, one.file_size)
        return arrays


def _read_npy(stream: IO[bytes], size: int) -> Tensor:
    """Read an array of at most `size` bytes, and no objects of Python."""
    numpy = _numpy()
    layout: Any = numpy.lib.format
    read_head = {(1, 0): layout.read_array_header_1_0, (2, 0): layout.read_array_header_2_0}
    version = layout.read_magic(stream)
    if version not in read_head:
        raise ValueError(f"it has the version {version} of the NPY format")
    shape, is_fortran, dtype = read_head[version](stream)
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds {dtype}, and no integers or floats")
    length = math.prod(shape) * dtype.itemsize
    content = stream.read(length) if length <= size else b""
    if len(content) < length:
        raise ValueError("it is incomplete")
    array = numpy.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
    kept = "float32" if dtype.kind == "f" else "int64" if dtype.kind in "iu" and dtype.itemsize > 1 else dtype
    return torch.from_numpy(numpy.array(array, dtype=kept, order="C"))  # pyright: ignore[reportUnknownMemberType]


def _read_csv(opened: IO[bytes]) -> Tensor:
    numpy = _numpy()
    with io.TextIOWrapper(opened, "utf-8-sig") as text:
        first = text.readline(_LONGEST_FIRST_LINE)
        if not first.strip():
            raise ValueError("it begins with an empty line")
        delimiter = max(",;\t", key=first.count)
        has_names = not all(_is_number(cell.strip().strip('"')) for cell in first.split(delimiter))
        row = text.readline() if has_names else first
        if not row.strip():
            raise ValueError("it has no line of numbers")
        rows = itertools.chain([row], text)
        try:
            table = numpy.loadtxt(rows, "float32", comments=None, delimiter=delimiter, ndmin=2, quotechar='"')
        except ValueError as error:
            raise ValueError(str(error).partition("; use `")[0]) from None  # advice about arguments of numpy follows
    return torch.from_numpy(table)  # pyright: ignore[reportUnknownMemberType]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise MissingExtraError("files in the NPZ, NPY and CSV formats need numpy: pip install numpy") from error
    return numpy
