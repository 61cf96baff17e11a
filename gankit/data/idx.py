"""Reading files in the IDX format, in which MNIST and its relatives come."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from typing import IO, NamedTuple, cast

import torch
from torch import Tensor

from gankit.errors import DataError, reason_of

MOST_BYTES = 1 << 32
"""The largest content that is read."""

_DTYPES = {0x08: torch.uint8, 0x09: torch.int8, 0x0B: torch.int16, 0x0C: torch.int32}
_MOST_DIMENSIONS = 4
_GZIP = b"\x1f\x8b"
_MOST_GROWTH = 1100  # gzip shrinks nothing to less than a 1032nd


class Idx(NamedTuple):
    """The values of a file, and the SHA-256 digest of its decompressed content."""

    values: Tensor
    sha256: str


def read_idx(opened: IO[bytes], name: str) -> Idx:
    """Read a file in the IDX format, whether it is compressed or not, which its first bytes say.

    The format is 0, 0, the type of the numbers, the number of dimensions, their sizes, and the numbers, each with the
    most significant byte first.

    Args:
        opened: The file, opened for reading bytes.
        name: The name of the file, for errors.

    Raises:
        DataError: If it is in another format, incomplete, too long, or has values that are no integers.

    Example:
        >>> import io
        >>> read_idx(io.BytesIO(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 6, 7])), "numbers").values
        tensor([5, 6, 7], dtype=torch.uint8)
    """
    try:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(0)
        is_compressed = opened.read(2) == _GZIP
        opened.seek(0)
        stream = cast("IO[bytes]", gzip.GzipFile(fileobj=opened)) if is_compressed else opened
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or not 1 <= head[3] <= _MOST_DIMENSIONS:
            raise ValueError("it is in another format")
        if head[2] not in _DTYPES:
            raise ValueError("it contains no integers of at most 32 bits")
        head += stream.read(4 * head[3])
        if len(head) < 4 + 4 * head[3]:
            raise ValueError("it is incomplete")
        sizes = [int.from_bytes(head[at : at + 4], "big") for at in range(4, len(head), 4)]
        dtype = _DTYPES[head[2]]
        length = math.prod(sizes) * dtype.itemsize
        # memory is taken only for as many bytes as there can be
        if len(head) + length > min(MOST_BYTES, size * _MOST_GROWTH if is_compressed else size):
            raise ValueError("it is incomplete, or too long")
        content = bytearray(length)
        if _fill(content, stream) < length or stream.read(1):
            raise ValueError("it is incomplete, or continues behind its end")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{name} must be a file in the IDX format, and cannot be read: {reason_of(error)}") from error
    digest = hashlib.sha256(head)
    digest.update(content)
    values = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    if dtype.itemsize > 1:  # the bytes of a number are in the opposite order
        values = values.view(-1, dtype.itemsize).flip(1).flatten()
    return Idx(values.view(dtype).reshape(sizes), digest.hexdigest())


def _fill(content: bytearray, stream: IO[bytes]) -> int:
    filled = 0
    while filled < len(content):
        part = stream.read(min(len(content) - filled, 1 << 20))
        if not part:
            break
        content[filled : filled + len(part)] = part
        filled += len(part)
    return filled
