"""The rows of the table, and how one of them is measured."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import resource
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.floors import Peaks, Work
from benchmarks.others import OTHERS, why_unusable
from benchmarks.row import Row
from benchmarks.scripts import tutorial_with_loader, tutorial_with_resident_data
from benchmarks.timing import DEFAULT, Contender, interleaved, seconds_per_step, steps_that_fit, wait_policy

GANKIT, TUTORIAL, RESIDENT, VANILLA = "gankit", "tutorial", "tutorial, resident data", "gankit, no penalty"


def loss_rows(precision: str, execution: str, batch_size: int = 128) -> list[Row]:
    """Return the rows for losses and penalties; the vanilla GAN is among the other rows."""
    settings = (batch_size, precision, execution)
    return [
        Row(
            *settings,
            loss="wasserstein",
            penalty="wasserstein_gradient_penalty",
            discriminator_steps=5,
            reach=True,
        ),
        Row(*settings, penalty="r1"),
        Row(*settings, penalty="r1", penalty_every=16),
    ]


def cuda_rows() -> list[Row]:
    """Return the rows for a GPU, in the order of the table."""
    goals = {
        (128, "tf32", "cuda_graph"),
        (128, "tf32", "compile+cuda_graph"),
        (1024, "tf32", "compile+cuda_graph"),
        (8192, "bfloat16", "compile+cuda_graph"),
    }
    grid = itertools.product(
        (128, 1024, 8192),
        ("float32", "tf32", "bfloat16"),
        ("eager", "compile", "cuda_graph", "compile+cuda_graph"),
    )
    rows = [
        Row(*settings, reach=settings in goals, others=settings == (128, "tf32", "cuda_graph")) for settings in grid
    ]
    rows += loss_rows("tf32", "cuda_graph")
    rows += [Row(128, "tf32", execution, preset="dcgan_mnist") for execution in ("cuda_graph", "compile+cuda_graph")]
    rows += [Row(128, "tf32", execution, replicas=64, reach=True) for execution in ("cuda_graph", "compile+cuda_graph")]
    return rows


def cpu_rows() -> list[Row]:
    """Return the rows for a CPU, in the order of the table."""
    grid = itertools.product((128, 1024), ("float32", "bfloat16"), ("eager", "compile"))
    rows = [Row(*settings, reach=settings[0] == 128, others=settings == (128, "float32", "eager")) for settings in grid]
    rows.append(Row(8192, "float32", "eager"))
    rows += loss_rows("float32", "eager")
    rows.append(Row(128, "float32", "eager", preset="dcgan_mnist"))
    rows.append(Row(128, "float32", "eager", replicas=8))
    return rows


NOT_ON_A_CPU = {
    "tf32, cuda_graph, compile+cuda_graph": "need a GPU",
    "batch 8192 in bfloat16 or compiled": "left out on a CPU: a step takes seconds",
}


def all_rows(device: torch.device) -> list[Row]:
    """Return every row, in the order of the table."""
    return cuda_rows() if device.type == "cuda" else cpu_rows()


def rows_for(device: torch.device, *, fast: bool) -> list[Row]:
    """Return the rows in the order of measuring: those that a goal depends on, then other trainings, then vanilla."""
    rows = all_rows(device)
    if fast:
        rows = [row for row in rows if row.batch_size == 128 and (row.reach or row.others) and row.penalty is None]
    return sorted(rows, key=lambda row: (not row.reach, row.what == "vanilla_mnist"))


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        rounds: The number of interleaved rounds.
        least_steps: The least number of steps that gankit makes in a round.
        round_seconds: About the time that a contender takes in a round, unless `least_steps` take longer.
        row_seconds: The longest time for a row. A row that would take longer is left out.
    """

    rounds: int
    least_steps: int
    round_seconds: float
    row_seconds: float

    @classmethod
    def on(cls, device: torch.device, *, fast: bool) -> Effort:
        """Return the effort of a run."""
        if device.type == "cuda":
            return cls(rounds=5, least_steps=200, round_seconds=0.1 if fast else 0.2, row_seconds=60)
        return cls(rounds=5 if fast else 9, least_steps=1, round_seconds=0.3, row_seconds=15 if fast else 50)


@dataclass
class Measured:
    """The results of one row.

    Args:
        row: The settings of the row.
        name: The name of the row.
        images: The number of images in a step; see `Row.images`.
        seconds: The seconds per step in each round, for each contender.
        steps: The number of steps in a round, for each contender.
        mode: How gankit's steps were really run.
        reason: Why they were run in this way.
        kernels: The number of kernels that a step launches, or None on a CPU.
        compile_seconds: The time for tracing and compiling.
        capture_seconds: The time for warming up and capturing, including compiling.
        peak_memory_bytes: The most memory during gankit's training: allocated on a GPU, of the whole process on a CPU.
            None if it is not known.
        work: The work of one step.
        left_out: The contenders that could not take part, with the reasons.
        wait_policy: How OpenMP's threads waited: `default`, or the value of `OMP_WAIT_POLICY`.
    """

    row: dict[str, Any]
    name: str
    images: int
    seconds: dict[str, list[float]]
    steps: dict[str, int]
    mode: str
    reason: str
    kernels: int | None
    compile_seconds: float
    capture_seconds: float
    peak_memory_bytes: int | None
    work: Work
    left_out: dict[str, str] = field(default_factory=dict)
    wait_policy: str = DEFAULT


class TooSlowError(Exception):
    """A row would take too long."""


def measure(row: Row, device: torch.device, effort: Effort, peaks: Peaks) -> Measured:
    """Measure gankit and what it is compared with in interleaved rounds.

    Raises:
        TooSlowError: If the row would take longer than the effort allows.
    """
    with peak_memory(device) as peak:
        trainer, ours = row.contender(device)
        # the first step is eager in every mode, and the second one builds programs; a lazy penalty needs programs of
        # its own, which are built when it is due for the second time
        ours(row.penalty_every + 2)
        once = seconds_per_step(ours, 1, device)
        expected = effort.rounds * max(effort.least_steps * once, effort.round_seconds)
        expected += effort.rounds * 2 * max(once, effort.round_seconds)  # the two scripts make at least one step each
        if expected > effort.row_seconds:
            raise TooSlowError(f"a step takes {once:.2g} s, the row would take about {expected:.0f} s")
    contenders: dict[str, Contender] = {GANKIT: ours}
    contenders[TUTORIAL] = tutorial_with_loader(row, device)
    contenders[RESIDENT] = tutorial_with_resident_data(row, device)
    if row.penalty is not None:
        _, contenders[VANILLA] = row.without_penalty().contender(device)
    left_out: dict[str, str] = {}
    for package, (build, version) in OTHERS.items() if row.others else ():
        reason = why_unusable(package, version)
        if reason is None:
            contenders[package] = build(row, device)
        else:
            left_out[package] = reason
    steps: dict[str, int] = {}
    for name, run in contenders.items():
        if name != GANKIT:
            seconds_per_step(run, 2, device)
        least = effort.least_steps if name in (GANKIT, VANILLA) else 1
        guess = seconds_per_step(run, least, device)
        # Lightning's block is one epoch at most, and 400 steps are less than an epoch
        fitting = steps_that_fit(guess, effort.round_seconds, least, 400)
        # whole periods, so that a lazy penalty is due equally often in each round
        steps[name] = row.penalty_every * math.ceil(fitting / row.penalty_every)
    seconds = interleaved(contenders, device, rounds=effort.rounds, steps=steps)
    peaks.measure(row.precision)
    explained = trainer.explain()
    return Measured(
        row=asdict(row),
        name=row.name,
        images=row.images,
        seconds=seconds,
        steps=steps,
        mode=explained.mode,
        reason=explained.reason,
        kernels=explained.kernels,
        compile_seconds=explained.compile_seconds,
        capture_seconds=explained.capture_seconds,
        peak_memory_bytes=peak[0] if peak else None,
        work=row.work(),
        left_out=left_out,
        wait_policy=wait_policy(),
    )


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Yield a list to which the peak memory inside the block, in bytes, is appended at its end.

    On a GPU, this is the memory allocated beyond what was allocated before; on a CPU, the resident memory of the whole
    process.
    """
    gc.collect()
    found: list[int] = []
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # on Linux, this resets the peak
    yield found
    if device.type == "cuda":
        found.append(torch.cuda.max_memory_allocated() - before)
    else:
        found.append(_resident_peak())


def _resident_peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
