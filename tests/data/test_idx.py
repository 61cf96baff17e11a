"""Files in the IDX format: what is read, and how soon the others are refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
from pathlib import Path

import pytest
import torch

from gankit.data import idx
from gankit.data.idx import read_idx
from gankit.errors import DataError


def content(numbers, sizes, code=0x08, kind="B"):
    head = bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)
    return head + struct.pack(f">{len(numbers)}{kind}", *numbers)


def read(given):
    return read_idx(io.BytesIO(given), "numbers")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "compressed"])
def test_bytes_are_read_with_their_shape_and_digest(pack):
    given = content(range(12), (3, 2, 2))
    found = read(pack(given))
    assert torch.equal(found.values, torch.arange(12, dtype=torch.uint8).view(3, 2, 2))
    assert found.sha256 == hashlib.sha256(given).hexdigest()


@pytest.mark.parametrize(
    ("code", "kind", "dtype"), [(0x09, "b", torch.int8), (0x0B, "h", torch.int16), (0x0C, "i", torch.int32)]
)
def test_integers_of_several_bytes_are_read(code, kind, dtype):
    numbers = [-2, 0, 1, 100]
    found = read(content(numbers, (4,), code, kind)).values
    assert (found.tolist(), found.dtype) == (numbers, dtype)


def test_no_samples_are_no_fault_of_the_file():
    assert read(content([], (0, 2, 2))).values.shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"", "it is in another format"),
        (b"<html>", "it is in another format"),
        (content([1], (1,))[:-1], "it is incomplete, or too long"),
        (content([1], (1,)) + b"x", "it is incomplete, or continues behind its end"),
        (content([1.0], (1,), 0x0D, "f"), "it contains no integers of at most 32 bits"),
        (bytes([0, 0, 8, 0]), "it is in another format"),
        (bytes([0, 0, 8, 255]), "it is in another format"),
        (bytes([0, 0, 8, 1, 0]), "it is incomplete"),
        (gzip.compress(content([1], (1,)))[:-4], "Compressed file ended"),
        (gzip.compress(content([1], (1,)) + b"x"), "continues behind its end"),
    ],
    ids=[
        "empty",
        "html",
        "short",
        "long",
        "floats",
        "no sizes",
        "many sizes",
        "short head",
        "cut archive",
        "long archive",
    ],
)
def test_other_content_is_refused_in_one_sentence(given, said):
    with pytest.raises(DataError, match=f"^numbers must be a file in the IDX format, and cannot be read: .*{said}"):
        read(given)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "compressed"])
def test_a_size_that_the_file_cannot_have_takes_no_memory(pack, monkeypatch):
    monkeypatch.setattr(idx, "bytearray", lambda length: pytest.fail(f"{length} bytes were taken"), raising=False)
    for sizes in ((1 << 31,), (1 << 20, 1 << 20), ((1 << 32) - 1,) * 4):
        with pytest.raises(DataError, match="it is incomplete, or too long"):
            read(pack(content([1], sizes)))


def test_a_file_of_a_terabyte_is_refused_at_once():
    with Path("huge").open("wb") as opened:
        opened.write(content([], (1 << 20, 1 << 20)))
        opened.truncate(1 << 40)
    with Path("huge").open("rb") as opened, pytest.raises(DataError, match="it is incomplete, or too long"):
        read_idx(opened, "huge")
