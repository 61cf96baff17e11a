"""Files are whole or not there, and nothing but a file is opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gankit.errors import OutputError
from gankit.files import append_line, open_regular, read_bytes, replacing, write_text


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


NO_FILES = {"folder": Path.mkdir, "pipe": make_pipe, "link to a device": make_device}
EVERY_KIND = pytest.mark.parametrize("make", NO_FILES.values(), ids=list(NO_FILES))


@EVERY_KIND
def test_only_files_are_read(make):
    make(Path("x"))
    with pytest.raises(ValueError, match="^x is not a file$"):
        read_bytes(Path("x"), 100)
    with pytest.raises(ValueError, match="^x is not a file$"):
        open_regular(Path("x"))


@EVERY_KIND
def test_only_files_are_replaced_and_appended_to(make):
    make(Path("x"))
    with pytest.raises(OutputError, match="^the log must be writable, got 'x': "):
        write_text(Path("x"), "text", "the log")
    with pytest.raises(OutputError, match="^the log must be writable, got 'x': "):
        append_line(Path("x"), "text", "the log")
    assert not Path("x").is_file()
    assert [path.name for path in Path().iterdir()] == ["x"]


def test_the_size_of_a_sparse_file_is_seen_before_it_is_read():
    with Path("x").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="^x must have at most 100 bytes, got 1099511627776$"):
        read_bytes(Path("x"), 100)


def test_a_link_is_replaced_and_what_it_leads_to_stays():
    Path("precious").write_text("mine")
    for name in ("x", ".unfinished-x"):
        Path(name).symlink_to("precious")
    write_text(Path("x"), "text", "the log")
    assert Path("precious").read_text() == "mine"
    assert not Path("x").is_symlink()
    assert Path("x").read_text() == "text"
    assert not Path(".unfinished-x").exists()


def test_a_link_is_not_appended_to():
    Path("precious").write_text("mine")
    Path("x").symlink_to("precious")
    with pytest.raises(OutputError, match="x is not a file"):
        append_line(Path("x"), "text", "the log")
    assert Path("precious").read_text() == "mine"


def test_a_link_is_followed_where_a_file_is_only_read():
    Path("blob").write_bytes(b"123")
    Path("x").symlink_to("blob")
    assert read_bytes(Path("x"), 3) == b"123"
    with pytest.raises(ValueError, match="^x is not a file$"):
        open_regular(Path("x"))


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_gets_the_mode_that_the_umask_leaves(mask):
    before = os.umask(mask)
    try:
        with replacing(Path("x"), "the folder") as temporary:
            temporary.write_text("text")
            temporary.chmod(0o600)  # as safetensors leaves it
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path("x").stat().st_mode) == 0o666 & ~mask


def fill_the_disk(path: Path) -> None:
    """Write half a file, as far as the disk allows."""
    with replacing(path, "the folder") as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")


def test_a_writer_that_fails_leaves_what_was_there():
    Path("x").write_text("old")
    with pytest.raises(OutputError, match="No space left"):
        fill_the_disk(Path("x"))
    assert Path("x").read_text() == "old"
    assert [path.name for path in Path().iterdir()] == ["x"]
