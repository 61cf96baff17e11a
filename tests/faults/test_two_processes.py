"""Two processes in one folder: exactly one of them writes, and the other one says so."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from gankit.cli import main
from gankit.errors import OutputError
from gankit.locks import FolderLock
from gankit.runs import Run
from gankit.training import Checkpointer, load_newest
from tests.faults.test_signals import SMALL


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_until_stopped(process: int) -> None:
    """Wait until all threads of a process have stopped: a signal is delivered some time after it is sent."""
    deadline = time.monotonic() + 60
    while True:
        states = [one.read_text().rpartition(")")[2].split()[0] for one in Path(f"/proc/{process}/task").glob("*/stat")]
        if states and set(states) == {"T"}:
            return
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_that_is_training_cannot_be_resumed_by_another_process(fork_server, capsys):
    folder = Path("run").resolve()
    options = ["--steps", "1000000", "--checkpoint-every-steps", "7", "--no-progress", "--out", str(folder)]
    child = fork_server.command("train", "ring", *SMALL, *options)
    deadline = time.monotonic() + 60
    while not any(folder.glob("checkpoints/step_*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(child, signal.SIGSTOP)
    try:
        wait_until_stopped(child)
        before = content(folder)
        assert main(["train", "--resume", str(folder), "--no-progress"]) == 2
        assert f"which process {child} writes into" in capsys.readouterr().err
        with pytest.raises(OutputError, match=f"the folder of the checkpoints must not be in use.*process {child}"):
            Checkpointer(folder / "checkpoints", every_steps=1)
        assert content(folder) == before
    finally:
        os.kill(child, signal.SIGCONT)
    os.kill(child, signal.SIGTERM)
    assert fork_server.wait_for(child) == 143
    assert load_newest(folder / "checkpoints").step > 0
    assert not list(folder.rglob(".*"))


def test_of_two_starts_at_the_same_moment_one_trains(fork_server):
    options = ["--steps", "3", "--no-progress", "--checkpoint-every-steps", "0", "--out", str(Path("run").resolve())]
    children = [fork_server.command("train", "ring", *SMALL, *options, "--seed", str(seed)) for seed in range(2)]
    codes = [fork_server.wait_for(child) for child in children]
    assert sorted(codes) == [0, 2]
    assert Run.open("run").recipe.seed == codes.index(0)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "ring", *SMALL, "--out", "run"],
        ["compare", "ring", "--loss", "minimax", "--seeds", "1", "--device", "cpu", "--out", "run"],
    ],
)
def test_a_folder_that_is_in_use_is_refused_before_anything_is_written(command, capsys):
    with FolderLock(Path("run"), "the folder"):
        assert main([*command, "--steps", "2", "--no-progress"]) == 2
        assert "folder must not be in use, got 'run'" in capsys.readouterr().err
        assert [path.name for path in Path("run").iterdir()] == [".lock"]
