"""Runs killed by SIGKILL, at a random moment or inside a save, end after a resume as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from gankit.training import load_newest


def weights(folder: str) -> dict[str, bytes]:
    names = ("generator.safetensors", "averaged_generator.safetensors", "discriminator.safetensors", "metrics.jsonl")
    return {name: (Path(folder) / name).read_bytes() for name in names}


def last_logged_step(folder: str) -> int:
    file = Path(folder, "metrics.jsonl")
    return json.loads(file.read_text().splitlines()[-1])["step"] if file.exists() and file.stat().st_size else 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, fork_server):
    """The weights and metrics of a run that nothing interrupts, and the seconds it takes."""
    folder = str(tmp_path_factory.mktemp("undisturbed") / "run")
    started = time.perf_counter()
    assert fork_server.run(folder) == 0
    return weights(folder), time.perf_counter() - started


def faults_of_killed_runs(trials: int, fork_server, undisturbed) -> list[str]:
    """Kill runs at random moments and resume them; return what went wrong."""
    expected, seconds = undisturbed
    chance, wrong = random.Random(0), []
    for trial in range(trials):
        folder = f"run_{trial}"
        for _ in range(chance.choice([1, 1, 2])):  # sometimes twice
            child = fork_server.fork(folder)
            time.sleep(chance.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)  # safe: the id is taken until wait_for
            fork_server.wait_for(child)
            found = load_newest(f"{folder}/checkpoints").step if any(Path(folder).glob("checkpoints/step*")) else 0
            # the interval twice: the next checkpoint may have been on its way to the disk, and the one after it waits
            if last_logged_step(folder) - found > 2 * 5:
                wrong.append(f"{trial}: lost more steps than the interval")
        if fork_server.run(folder) != 0 or weights(folder) != expected:
            wrong.append(f"{trial}: other weights or metrics")
        if list(Path(folder, "checkpoints").glob(".*")):
            wrong.append(f"{trial}: stray files")
        shutil.rmtree(folder)
    return wrong


def test_a_killed_run_ends_as_if_nothing_had_happened(fork_server, undisturbed):
    assert faults_of_killed_runs(2, fork_server, undisturbed) == []


@pytest.mark.slow
def test_a_hundred_killed_runs_end_as_if_nothing_had_happened(fork_server, undisturbed):
    assert faults_of_killed_runs(100, fork_server, undisturbed) == []


CALL_IN_A_SAVE = [("fsync", 3)]
# a save flushes its three files, its folder, and the folder of the checkpoints; then the next save begins
MORE_CALLS_IN_A_SAVE = [
    *(("rename", 1), ("rename", 4), ("fsync", 1), ("fsync", 2), ("fsync", 4), ("fsync", 5), ("fsync", 6)),
]


@pytest.mark.parametrize(
    ("name", "count"),
    CALL_IN_A_SAVE + [pytest.param(*call, marks=pytest.mark.slow) for call in MORE_CALLS_IN_A_SAVE],
)
def test_a_run_killed_inside_a_save_ends_as_if_nothing_had_happened(name, count, fork_server, undisturbed):
    assert fork_server.run("run", (name, count)) == -signal.SIGKILL
    assert fork_server.run("run") == 0
    assert weights("run") == undisturbed[0]
    assert not list(Path("run/checkpoints").glob(".*"))
