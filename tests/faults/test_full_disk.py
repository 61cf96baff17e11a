"""A save to a full disk raises one error and leaves the previous checkpoint."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import save

from gankit.cli import main
from gankit.errors import CheckpointWarning, GankitWarning, OutputError
from gankit.training import Checkpointer, load_newest
from tests.faults.checkpoints import POINTS


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 KiB; the test is skipped where mounting one is not allowed."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("this system has no mount command")
    if done.returncode:
        pytest.skip("mounting a disk needs more rights")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def save_before_and_after(checkpointer, fill: Callable[[], None]) -> None:
    """Save a checkpoint, fill the disk, and save another."""
    trainer, batches = POINTS(device="cpu"), POINTS.batches(device="cpu")
    trainer.fit(batches, steps=1)
    checkpointer.save(trainer)
    checkpointer.flush()
    fill()
    trainer.fit(batches, steps=2)
    checkpointer.save(trainer)
    checkpointer.flush()


def test_a_full_disk_raises_an_error_and_leaves_the_previous_checkpoint(small_disk):
    directory = small_disk / "checkpoints"

    def fill():
        with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with (
        Checkpointer(directory, every_steps=1) as checkpointer,
        pytest.raises(OutputError, match=r"must be writable, got '.*step_0000002': No space left on device"),
    ):
        save_before_and_after(checkpointer, fill)
    assert [path.name for path in directory.glob("*step_*")] == ["step_0000001"]
    assert load_newest(directory).step == 1


@pytest.mark.parametrize("after_bytes", [0, 100, 5000])
def test_a_failed_write_raises_an_error_and_leaves_the_previous_checkpoint(after_bytes, monkeypatch):
    def write_to_a_full_disk(path, content):
        path.write_bytes(content[:after_bytes])
        if len(content) > after_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return {"bytes": len(content), "sha256": ""}

    def fill(patch):
        patch.setattr(
            "gankit.training.saving.folder.write_tensors",
            lambda path, tensors: write_to_a_full_disk(path, save(tensors)),
        )

    refused = pytest.raises(OutputError, match=r"'checkpoints/step_0000002': No space left on device")
    with monkeypatch.context() as patch, refused:
        save_before_and_after(Checkpointer("checkpoints", every_steps=1), partial(fill, patch))
    assert [path.name for path in Path("checkpoints").glob("*step_*")] == ["step_0000001"]
    checkpointer = Checkpointer("others", every_steps=1, on_failure="warn")
    with monkeypatch.context() as patch, pytest.warns(CheckpointWarning, match="No space left"):
        save_before_and_after(checkpointer, partial(fill, patch))
    assert load_newest("others").step == 1


def test_a_run_on_a_full_disk_ends_with_one_sentence(small_disk, capsys):
    options = ["--generator", "mlp:widths=[64],block=linear_relu", "--device", "cpu", "--no-progress"]
    folder = str(small_disk / "run")
    with pytest.warns(GankitWarning, match="after an error, this failed as well: .*No space left"):
        code = main(["train", "ring", *options, "--steps", "20", "--checkpoint-every-steps", "1", "--out", folder])
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.splitlines()[-1].startswith("gankit: error: ")
    assert "No space left on device" in errors
    assert not list(Path(folder).rglob(".*"))
