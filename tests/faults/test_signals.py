"""SIGINT and SIGTERM: training saves and says how to continue, even if a signal arrives during a save."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from gankit.cli import main
from gankit.runs import Run
from gankit.training import load_newest

COMMAND = [sys.executable, "-m", "gankit", "train"]
SMALL = ["--generator", "mlp:widths=[8],block=linear_relu", "--discriminator", "mlp:widths=[8]", "--device", "cpu"]


def start_training(*options: str) -> subprocess.Popen:
    """Start a training in a process of its own, and wait until it has saved a checkpoint."""
    command = [*COMMAND, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(Path("run/checkpoints").glob("step_*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_says_how_to_continue(number, code):
    long = ["ring", *SMALL, "--steps", "1000000", "--no-progress", "--out", "run", "--checkpoint-every-steps", "10"]
    process = start_training(*long)
    started = time.monotonic()
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - started < 30
    assert "stopping after this step" in errors
    assert said.splitlines()[-1] == "continue gankit train --resume run"
    step = load_newest("run/checkpoints").step
    assert f"{step} of 1000000 steps done" in said
    override = ["--override", "--steps", str(step + 3), "--no-progress"]  # the learning rates depend on the steps
    assert main(["train", "--resume", "run", *override]) == 0
    assert load_newest("run/checkpoints").step == step + 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_terminal_that_closes_leaves_a_checkpoint():
    """The command trains in a terminal of its own, which closes: it gets SIGHUP, and can print no more."""
    terminal, inside = pty.openpty()
    options = ["ring", *SMALL, "--steps", "1000000", "--out", "run", "--checkpoint-every-steps", "10"]
    process = subprocess.Popen(
        [*COMMAND, *options],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(inside)
    deadline = time.monotonic() + 120
    while not any(Path("run/checkpoints").glob("step_*")):
        assert time.monotonic() < deadline
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 1 << 16)  # the progress bar
    os.close(terminal)
    assert process.wait(60) == 129
    step = load_newest("run/checkpoints").step
    assert Path("run/generator.safetensors").exists()
    assert main(["train", "--resume", "run", "--override", "--steps", str(step + 3), "--no-progress"]) == 0


INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(("first", "second"), [(INT, INT), (TERM, TERM), (INT, TERM), (TERM, INT)])
def test_a_second_signal_aborts_and_leaves_the_checkpoint_of_the_first(first, second, monkeypatch, capsys):
    """Raise both signals in this process, the second while the first is being handled."""
    save_weights = Run.save_weights

    def interrupted(self, trainer):
        save_weights(self, trainer)
        signal.raise_signal(second)

    monkeypatch.setattr(Run, "save_weights", interrupted)

    class Stopping:
        every = 1

        def __call__(self, trainer):
            if trainer.steps_done == 5:
                signal.raise_signal(first)

    build = Run.build_trainer

    def build_trainer(self, device=None):
        trainer = build(self, device)
        trainer.callbacks.append(Stopping())
        return trainer

    monkeypatch.setattr(Run, "build_trainer", build_trainer)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    options = ["--steps", "50", "--no-progress", "--checkpoint-every-steps", "4", "--out", "run"]
    assert main(["train", "ring", *SMALL, *options]) == 128 + second
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    errors = capsys.readouterr().err
    assert "continue with\n  gankit train --resume run" in errors
    assert load_newest("run/checkpoints").step == 5


def fault_after_signals(
    fork_server, folder: Path, chance: random.Random, signals: list[signal.Signals], in_a_save: bool
) -> str:
    """Send signals to a training and resume it; return what went wrong, or an empty string."""
    options = ["--steps", "1000000", "--checkpoint-every-steps", "7", "--no-progress", "--out", str(folder.resolve())]
    child = fork_server.command("train", "ring", *SMALL, *options, seconds_per_flush=0.1)
    wanted = f"{'.unfinished' if in_a_save else 'step'}_*"
    deadline = time.monotonic() + 60
    while not (any(folder.glob("checkpoints/step_*")) and any(folder.glob(f"checkpoints/{wanted}"))):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    started = time.monotonic()
    for number in signals:
        time.sleep(chance.uniform(0, 0.05 if in_a_save else 0.3))
        os.kill(child, number)  # safe: the id is taken until wait_for
    code = fork_server.wait_for(child)
    if time.monotonic() - started > 30:
        return "took longer than 30 seconds"
    # the second signal aborts, unless the process had already ended; a third may arrive during the abort
    ended_by = signals if len(signals) == 1 or not in_a_save else signals[1:]
    if code not in {128 + one for one in ended_by}:
        return f"exit code {code} after {signals}"
    found = load_newest(folder / "checkpoints").step
    resume = ["--override", "--steps", str(found + 3), "--no-progress"]  # the learning rates depend on the steps
    if fork_server.wait_for(fork_server.command("train", "--resume", str(folder.resolve()), *resume)) != 0:
        return "the resumed run failed"
    if load_newest(folder / "checkpoints").step != found + 3:
        return "the resumed run started from another step"
    if stray := list(folder.rglob(".*")):
        return f"left {stray}"
    shutil.rmtree(folder)
    return ""


@pytest.mark.parametrize(
    "signals", [[TERM, TERM], *(pytest.param(one, marks=pytest.mark.slow) for one in ([INT], [TERM], [INT, INT]))]
)
def test_signals_during_a_save_leave_a_whole_checkpoint(signals, fork_server):
    assert fault_after_signals(fork_server, Path("run"), random.Random(0), signals, in_a_save=True) == ""


@pytest.mark.slow
def test_fifty_runs_with_signals_at_any_moment_leave_a_checkpoint_to_continue_from(fork_server):
    chance, wrong = random.Random(0), []
    for trial in range(50):
        signals = [chance.choice([INT, TERM]) for _ in range(chance.choice([1, 2, 2, 3]))]
        said = fault_after_signals(fork_server, Path(f"run_{trial}"), chance, signals, in_a_save=chance.random() < 0.5)
        if said:
            wrong.append(f"{trial}: {said}")
    assert wrong == []
