"""The command under torchrun: several processes, one of which is killed, and all of which are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gankit.presets import ring
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from tests.ranks import on_ranks

STEPS, EVERY = 60, 10
ARGUMENTS = [
    *("ring", "--no-progress", "--generator", "mlp:widths=[8],block=linear_relu", "--discriminator", "mlp:widths=[8]"),
    *("--batch-size", "16", "--seed", "1", "--log-every-steps", "5", "--check-every-steps", "5", "--device", "cpu"),
    *("--checkpoint-every-steps", str(EVERY), "--sample-every-steps", "100000"),
]
WEIGHTS = ("generator.safetensors", "averaged_generator.safetensors", "discriminator.safetensors", "metrics.jsonl")


def environment() -> dict[str, str]:
    """This project's package first, one thread a rank."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}


def torchrun(ranks: int, *arguments: str, restarts: int = 0) -> subprocess.Popen[str]:
    """Begin the command in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    launcher += ["--max-restarts", str(restarts), "--standalone", "-m", "gankit", "train"]
    return subprocess.Popen(
        [*launcher, *ARGUMENTS, *arguments],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(step: int, folder: str, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until a checkpoint of this step or a later one is there."""
    end = time.monotonic() + seconds
    while not any(int(p.name[5:]) >= step for p in Path(folder).glob("checkpoints/step_*")):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


def ranks_of(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """The processes that the launcher has begun, by rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"PPid:\t{launcher.pid}\n" in (entry / "status").read_text():
                variables = (entry / "environ").read_bytes().split(b"\0")
                found |= {int(one[5:]): int(entry.name) for one in variables if one.startswith(b"RANK=")}
        except OSError:  # it has ended
            continue
    return found


def undisturbed(steps: int) -> None:
    networks = {"generator": Spec("mlp", widths=[8], block="linear_relu"), "discriminator": Spec("mlp", widths=[8])}
    preset = ring.replace(**networks, batch_size=16, steps=steps)
    every = {
        "log_every_steps": 5,
        "check_every_steps": 5,
        "checkpoint_every_steps": EVERY,
        "sample_every_steps": 100_000,
    }
    Run("undisturbed", Recipe(preset=preset, device="cpu", seed=1, ranks=2, **every)).train(progress=False)


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the ranks are found in /proc")


@needs_proc
@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_after_a_rank_is_killed_all_begin_again_and_end_as_if_nothing_had_happened(killed):
    steps = 120
    process = torchrun(2, "--steps", str(steps), "--out", "run", restarts=1)
    wait_for(2 * EVERY, "run", process)
    os.kill(ranks_of(process)[killed], signal.SIGKILL)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    on_ranks(2, undisturbed, steps)
    for name in WEIGHTS:
        assert Path("run", name).read_bytes() == Path("undisturbed", name).read_bytes()
    assert output.count(f"{steps} of {steps} steps done") == 1
    assert errors.count("2 ranks with batches of 16 each, 32 in all") == 2  # it was begun twice
    lines = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(5, steps + 1, 5))
    assert json.loads(Path("run/environment.json").read_text())["ranks"] == 2


@needs_proc
@pytest.mark.slow
def test_a_signal_to_the_launcher_saves_and_the_printed_command_continues():
    process = torchrun(2, "--steps", "100000", "--out", "run")
    wait_for(EVERY, "run", process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    done = int(output.split(" of 100000 steps done")[0].split()[-1])
    assert Path(f"run/checkpoints/step_{done:07d}").is_dir(), errors
    command = "torchrun --nproc-per-node 2 -m gankit train --resume run"
    assert output.splitlines()[-1] == f"continue {command}"
    alone = [sys.executable, "-m", "gankit", "train", "--resume", "run"]
    refused = subprocess.run(alone, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "got ranks 1 instead of 2" in refused.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", *command.split()[1:]]
    again = subprocess.Popen(launcher, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(done + EVERY, "run", again)
    again.send_signal(signal.SIGTERM)
    output, errors = again.communicate(timeout=60)
    assert int(output.split(" of 100000 steps done")[0].split()[-1]) > done, errors


ENDS = """
import os, sys
from pathlib import Path

import torch
import torch.distributed as dist

from gankit.presets import ring

rank = int(sys.argv[1])
os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
for thread in Path("/proc/self/task").iterdir():
    if "gloo" in (thread / "comm").read_text():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), 19)
ring(device="cpu").fit(ring.batches(device="cpu"), steps=1)
dist.destroy_process_group()
"""


@needs_proc
@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="each rank has a core of its own")
def test_a_rank_that_has_finished_ends_without_an_error_though_the_threads_of_its_group_are_slow():
    script, place = Path("ends.py"), Path.cwd()
    script.write_text(ENDS)
    for turn in range(4):  # half of the processes aborted
        ranks = [
            subprocess.Popen([sys.executable, script, str(rank), f"{place}/store_{turn}"], env=environment(), stderr=-1)
            for rank in range(2)
        ]
        outcomes = [(one.communicate(timeout=120)[1], one.returncode) for one in ranks]
        assert outcomes == [(b"", 0), (b"", 0)]
