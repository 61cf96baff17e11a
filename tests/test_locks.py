"""The lock of a folder: whom it keeps out, when it ends, and what it does where there are no locks."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gankit import locks
from gankit.errors import GankitWarning, OutputError, OutputExistsError
from gankit.files import LOCK_FILE, is_new
from gankit.locks import FolderLock

FOLDER = Path("run")
LOCK = FOLDER / LOCK_FILE
HOLDING = """
import os, sys
from pathlib import Path
from gankit.locks import FolderLock
lock = FolderLock(Path("run"), "the folder")
worker = os.fork() if "with worker" in sys.argv else 1
if worker:
    print(worker, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other_process():
    """Start a process that holds the lock, and return it with the number of the process that it forked."""
    started = []

    def start(*arguments: str) -> tuple[subprocess.Popen, int]:
        command = [sys.executable, "-c", HOLDING, *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        process.stdin.close()  # which ends a forked process too
        process.stdout.close()
        process.wait(30)


def lock() -> FolderLock:
    return FolderLock(FOLDER, "the folder")


def test_another_process_is_kept_out_and_named(other_process):
    process, _ = other_process()
    says = f"^the folder must not be in use, got 'run', which process {process.pid} writes into; wait until that has"
    with pytest.raises(OutputError, match=says):
        lock()
    process.communicate("")  # its end
    with lock():
        pass
    assert list(FOLDER.iterdir()) == []


def test_a_process_of_another_machine_is_named(other_process):
    other_process()
    LOCK.write_text("17 node7\n")
    with pytest.raises(OutputError, match="which process 17 on node7 writes into"):
        lock()
    LOCK.write_text("\x1b[31m")
    with pytest.raises(OutputError, match="which another process writes into"):
        lock()


def test_a_killed_process_holds_nothing_even_if_one_that_it_forked_lives_on(other_process):
    process, worker = other_process("with worker")
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    os.kill(worker, 0)  # it is there
    assert LOCK.exists()
    assert is_new(FOLDER)
    with lock():
        pass


def test_the_same_process_is_kept_out_too():
    with lock(), pytest.raises(OutputError, match="which this process writes into"):
        lock()
    with lock():
        pass


def test_reading_and_copying_the_folder_does_not_end_the_lock():
    with lock():
        shutil.copytree(FOLDER, "copy")
        LOCK.read_bytes()
        with pytest.raises(OutputError, match="must not be in use"):
            lock()
        with FolderLock(Path("copy"), "the folder"):
            pass


def test_a_forked_process_cannot_end_the_lock():
    with lock() as held:
        child = os.fork()
        if not child:
            held.release()
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(OutputError, match="must not be in use"):
            lock()


def test_a_lock_that_nothing_refers_to_is_free():
    lock()
    with lock():
        pass


def test_a_lock_whose_file_is_removed_before_it_is_locked_is_taken_on_the_new_file(monkeypatch):
    """The process that held it removes the file at its end, after another one has opened it."""
    flock, calls = locks.fcntl.flock, []

    def removing(descriptor, how):
        calls.append(descriptor)
        if len(calls) == 1:
            LOCK.unlink()
        flock(descriptor, how)

    monkeypatch.setattr(locks.fcntl, "flock", removing)
    with lock():
        assert len(calls) == 2
        with pytest.raises(OutputError, match="must not be in use"):
            lock()


def test_of_two_that_find_a_new_folder_only_one_gets_it(monkeypatch):
    """The other one fills the folder and ends between the look at the folder and the lock."""
    locked = locks._locked

    def late(file):
        monkeypatch.setattr(locks, "_locked", locked)
        with FolderLock(FOLDER, "the folder", must_be_new=True):
            (FOLDER / "recipe.json").write_text("theirs")
        return locked(file)

    monkeypatch.setattr(locks, "_locked", late)
    with pytest.raises(OutputExistsError, match="new or empty, got 'run' with files in it"):
        FolderLock(FOLDER, "the folder", must_be_new=True)
    assert [path.name for path in FOLDER.iterdir()] == ["recipe.json"]
    with lock():
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_there_is_a_warning_and_nothing_is_left(number, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.warns(GankitWarning, match="the folder 'run' cannot be locked, because its file system has no locks"):
        held = lock()
    assert list(FOLDER.iterdir()) == []
    held.release()


def test_neither_a_link_nor_a_pipe_is_opened():
    FOLDER.mkdir()
    Path("outside").write_text("theirs")
    LOCK.symlink_to(Path("outside").absolute())
    with pytest.raises(OutputError, match="the folder must be writable, got 'run/.lock'"):
        lock()
    assert Path("outside").read_text() == "theirs"
    LOCK.unlink()
    os.mkfifo(LOCK)
    with pytest.raises(OutputError, match="must be writable, got 'run/.lock': it is not a file"):
        lock()
