"""Arrays from files of numbers: every format, and crafted files, which are refused before memory is taken."""

from __future__ import annotations

import gzip
import io
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from gankit.data.array_files import TABLE, read_arrays
from gankit.errors import DataError, DataNotFoundError, MissingExtraError

FILE = Path("numbers")
BYTES = np.arange(12, dtype=np.uint8).reshape(3, 4)


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npy_head(shape, descr="|u1"):
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def test_the_content_says_the_format():
    head = bytes([0, 0, 8, 2, 0, 0, 0, 3, 0, 0, 0, 4])
    for content in (head + BYTES.tobytes(), gzip.compress(head + BYTES.tobytes()), npy(BYTES)):
        FILE.write_bytes(content)
        arrays = read_arrays(FILE)
        assert list(arrays) == [""]
        assert arrays[""].tolist() == BYTES.tolist()
        assert arrays[""].dtype == torch.uint8
    FILE.write_bytes(zipped(a=npy(BYTES), b=npy(BYTES[0])))
    assert {name: one.tolist() for name, one in read_arrays(FILE).items()} == {
        "a": BYTES.tolist(),
        "b": BYTES[0].tolist(),
    }


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("bool", torch.bool),
        ("int8", torch.int8),
        (">i2", torch.int64),
        ("uint16", torch.int64),
        ("int64", torch.int64),
        (">f4", torch.float32),
        ("float16", torch.float32),
        ("float64", torch.float32),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_every_type_and_order_keep_their_values(dtype, kept, order):
    array = np.asarray(np.arange(6).reshape(2, 3) % 2, dtype=dtype, order=order)
    FILE.write_bytes(npy(array))
    found = read_arrays(FILE)[""]
    assert found.dtype == kept
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3\n4,5,6\n",
        "label,p0,p1\n1,2,3\n4,5,6\n",
        '"label","p0","p1"\n1,2,3\n4,5,6',
        "1;2;3\r\n4;5;6\r\n",
        "a\tb\tc\n1\t2\t3\n4\t5\t6\n\n",
        "\ufeff1,2,3\n4,5,6\n",
        "1.0, 2.0, 3.0\n4, 5, 6\n",
        '"1","2","3"\n"4","5","6"\n',
    ],
    ids=["plain", "names", "quoted-names", "semicolons", "tabs", "byte-order-mark", "floats", "quoted"],
)
def test_tables_are_read_as_people_write_them(text):
    FILE.write_bytes(text.encode())
    assert read_arrays(FILE)[TABLE].tolist() == [[1, 2, 3], [4, 5, 6]]


CRAFTED = {
    "objects": npy(np.array([{}], dtype=object), allow_pickle=True),
    "objects in an archive": zipped(a=npy(np.array([{}], dtype=object), allow_pickle=True)),
    "texts": npy(np.array(["a"])),
    "complex": npy(np.array([1j])),
    "records": npy(np.zeros(1, dtype=[("a", "u1")])),
    "a huge shape": npy_head((1 << 40,)) + b"x",
    "a huge shape in an archive": zipped(a=npy_head((1 << 40,)) + b"x"),
    "a negative shape": npy_head((-5, 3)) + b"x" * 15,
    "a cut array": npy(BYTES)[:-1],
    "a cut head": npy(BYTES)[:20],
    "a deep head": npy_head("(" * 3000) + b"x",
    "another version": b"\x93NUMPY\x09\x00" + b"x" * 100,
    "a cut archive": zipped(a=npy(BYTES))[:-10],
    "no archive": b"PK\3\4nothing",
    "many arrays": zipped(**{f"a{number}": b"" for number in range(1001)}),
    "nothing": b"",
    "an empty line": b"\n1,2\n",
    "names alone": b"a,b\n",
    "uneven rows": b"1,2\n3\n",
    "an empty cell": b"1,2\n3,\n",
    "decimal commas": b"1;3,5\n1;3,5\n",
    "words": b"1,2\nx,3\n",
    "a page": b"<!DOCTYPE html>\n<html>not found</html>\n",
    "no text": b"\xff\xfe\x00\x01",
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_and_damaged_files_are_refused_in_one_sentence(name):
    FILE.write_bytes(CRAFTED[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"^'numbers' must contain numbers as IDX, NPZ, NPY or CSV: .") as refusal:
            read_arrays(FILE)
    assert "\n" not in str(refusal.value)


def test_an_archive_that_unpacks_to_more_than_is_read_is_refused(monkeypatch):
    monkeypatch.setattr("gankit.data.array_files.MOST_BYTES", 1000)
    FILE.write_bytes(zipped(a=npy(np.zeros(600, dtype=np.uint8)), b=npy(np.zeros(600, dtype=np.uint8))))
    with pytest.raises(DataError, match="it has more than 1000 arrays or 1000 bytes"):
        read_arrays(FILE)


@pytest.mark.parametrize("start", [b"PK\3\4", b"\x93NUMPY\1\0", b"1,2\n"], ids=["npz", "npy", "csv"])
def test_a_file_of_a_terabyte_is_refused_at_once(start):
    with FILE.open("wb") as opened:
        opened.write(start)
        opened.truncate(1 << 40)
    with pytest.raises(DataError, match="it has 1099511627776 bytes, more than the 4294967296 that are read at most"):
        read_arrays(FILE)


def test_what_is_no_file_is_refused():
    with pytest.raises(DataNotFoundError, match="^a file of numbers was expected, got 'nowhere', which"):
        read_arrays(Path("nowhere"))
    with pytest.raises(DataError, match="is not a file$"):
        read_arrays(Path())
    Path("zero").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="zero is not a file$"):
        read_arrays(Path("zero"))


def test_without_numpy_it_says_what_to_install(monkeypatch):
    FILE.write_text("1,2\n")
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingExtraError, match="^files in the NPZ, NPY and CSV formats need numpy: pip"):
        read_arrays(FILE)
