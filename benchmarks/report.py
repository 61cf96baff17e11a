"""The results on disk: a JSON file with every number, and Markdown tables."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import gankit
from benchmarks.floors import Peaks, arithmetic_floor, emulates_bfloat16, memory_floor
from benchmarks.rows import GANKIT, RESIDENT, TUTORIAL, VANILLA, Measured, all_rows
from benchmarks.timing import DEFAULT, ratios, spread, wait_policy

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals.

    Args:
        what: The goal in words.
        wanted: The value to reach, in words.
        measured: The value that was measured, in words, or "not measured".
        met: Whether the goal was met, or None if it was not measured.
    """

    what: str
    wanted: str
    measured: str
    met: bool | None


@dataclass
class Report:
    """The results of one run.

    Args:
        device: The device that was measured.
        date: The date of the run, such as 2026-01-31.
        peaks: The rates of the device.
        fast: Whether it was the short run.
        rows: The results of each row.
        overhead: The seconds per step of the loop by hand and of the trainer in each round; empty if not measured.
        left_out: What was not measured, with the reasons.
        minutes: The time that the run took.
    """

    device: torch.device
    date: str
    peaks: Peaks
    fast: bool = False
    rows: list[Measured] = field(default_factory=list)
    overhead: dict[str, list[float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    minutes: float = 0.0

    @property
    def stem(self) -> str:
        """The name of the files, without the extension."""
        return stem(self.device, self.date) + ("-fast" if self.fast else "")

    def add(self, row: Measured) -> None:
        """Put a row into its place in the table; of two policies of waiting, the default comes first."""
        places = {one.name: number for number, one in enumerate(all_rows(self.device))}
        self.rows.append(row)
        self.rows.sort(key=lambda one: (one.wait_policy != DEFAULT, places[one.name]))

    @property
    def policies(self) -> list[str]:
        """The policies of waiting under which rows were measured, the default first."""
        return list(dict.fromkeys(row.wait_policy for row in self.rows)) or [wait_policy()]

    @property
    def first_rows(self) -> list[Measured]:
        """The rows under the first policy, which most tables show."""
        return [row for row in self.rows if row.wait_policy == self.policies[0]]

    @property
    def hardware(self) -> dict[str, str]:
        """The hardware, and how threads waited."""
        found = hardware(self.device)
        return found | {"waiting threads": ", then ".join(self.policies)} if "waiting threads" in found else found

    def write(self, folder: Path = RESULTS) -> Path:
        """Write both files, each completely or not at all; return the path of the Markdown file."""
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in (("json", json.dumps(self.to_dict(), indent=2) + "\n"), ("md", self.to_markdown())):
            aside = folder / f"{self.stem}.{ending}.tmp"
            aside.write_text(text, encoding="utf-8")
            aside.replace(folder / f"{self.stem}.{ending}")
        return folder / f"{self.stem}.md"

    def to_dict(self) -> dict[str, Any]:
        """Return all results as dictionaries and lists."""
        return {
            "date": self.date,
            "fast": self.fast,
            "minutes": self.minutes,
            "hardware": self.hardware,
            "versions": versions(),
            "peaks": {"flops_per_second": self.peaks.flops, "copied_bytes_per_second": self.peaks.copied},
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "overhead": self.overhead,
            "overhead_wait_policy": wait_policy(),
            "goals": [dataclasses.asdict(goal) for goal in self.goals()],
            "left_out": self.left_out,
        }

    def goals(self) -> list[Goal]:
        """Return the goals with what was measured."""
        return goals(self.first_rows, self.device, self.overhead)

    # --- Markdown ----------------------------------------------------------------------------------------

    def to_markdown(self) -> str:
        """Return the tables."""
        is_cuda = self.device.type == "cuda"
        rows = self.first_rows
        clock = "CUDA events" if is_cuda else "the clock of the CPU, because there is no GPU"
        parts = [
            f"# Benchmark, {self.date}" + (", short run" if self.fast else ""),
            table(("", ""), [*self.hardware.items(), *versions().items()]),
            f"Measured by {clock}. All contenders of a row run in interleaved rounds, and each goes first in turn. "
            "Figures are medians over the rounds, with quartiles; ratios are taken round by round. The scripts that "
            "gankit is compared with train the same networks, always in float32 and eager mode. "
            f"The run took {self.minutes:.1f} minutes.",
            "## Speed",
            speed_table(rows),
            "`tutorial` and `resident` say how many times as fast gankit is as the script of a tutorial, with a "
            "`DataLoader` and with its data on the device. Images are the real ones that discriminators see."
            + (
                " With replicas, gankit's step counts as one step of the script per replica."
                if _any(rows, "replicas")
                else ""
            ),
            "## Work, memory, and time to build",
            cost_table(rows, self.peaks),
            self._peaks()
            + (" Memory is what training allocated." if is_cuda else " Memory is that of the whole process."),
        ]
        if penalties := penalty_table(rows):
            parts += ["## What losses and penalties cost", penalties]
        if others := others_table(rows):
            parts += ["## Compared with other libraries", others]
        parts += ["## Times of the scripts", contender_table(rows)]
        for policy in self.policies[1:]:
            parts += [
                f"## Times with `OMP_WAIT_POLICY={policy}`",
                policy_table(rows, [row for row in self.rows if row.wait_policy == policy]),
                f"The tables above show the policy `{self.policies[0]}`. Each row was measured with one policy right "
                "after the other, each time in a new process.",
            ]
        if self.overhead:
            parts += ["## The trainer and the loop by hand", overhead_table(self.overhead)]
        parts += ["## Goals", goal_table(self.goals())]
        if left := {**self.left_out, **{k: v for row in self.rows for k, v in row.left_out.items()}}:
            parts += ["## Not measured", table(("what", "reason"), left.items())]
        return "\n\n".join(parts) + "\n"

    def _peaks(self) -> str:
        flops = ", ".join(f"{value / 1e12:.3g} TFLOP/s in {name}" for name, value in sorted(self.peaks.flops.items()))
        return (
            "The floors are the FLOPs of a step divided by the rate of a large matrix product, and its bytes divided "
            f"by the rate of a large copy. Rates in this run: {flops}; {self.peaks.copied / 1e9:.3g} GB/s read and "
            "written. A step at 100 % takes no longer than its floor."
        )


def hardware(device: torch.device) -> dict[str, str]:
    """Return the hardware of a run, and the settings that matter for its speed."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "device": properties.name,
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "CUDA": str(torch.version.cuda),
            "CPU": _cpu(),
        }
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    return {
        "device": f"{_cpu()}, {os.cpu_count()} cores",
        "threads": threads,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16 instructions": "no: it is emulated" if emulates_bfloat16(device) else "yes",
        "waiting threads": wait_policy(),
        "load": " ".join(f"{one:.1f}" for one in os.getloadavg()) + " (1, 5, 15 minutes, at the end)",
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def stem(device: torch.device, date: str) -> str:
    """Return the beginning of the name of a file of results."""
    words = re.sub(r"[^a-z0-9]+", "-", hardware(device)["device"].lower()).strip("-")
    return f"{words}-{date}"


def versions() -> dict[str, str]:
    """Return the versions of Python, torch and gankit."""
    return {"Python": platform.python_version(), "torch": torch.__version__, "gankit": gankit.__version__}


def table(heads: Sequence[str], lines: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table.

    Example:
        >>> print(table(("a", "b"), [(1, "x|y")]))
        | a | b |
        |---|---|
        | 1 | x\\|y |
    """
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    rows += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join(rows)


def short(seconds: float) -> str:
    """Return a time in a suitable unit.

    Example:
        >>> short(0.000123), short(0.01234), short(2.5)
        ('123 us', '12.3 ms', '2.50 s')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            return f"{digits3(seconds * factor)} {unit}"
    raise AssertionError


def digits3(value: float) -> str:
    """Return a number with about three digits and without an exponent.

    Example:
        >>> digits3(0.01234), digits3(12.345), digits3(123456.0)
        ('0.012', '12.3', '123,456')
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def percent(fraction: float) -> str:
    """Return a fraction as a percentage.

    Example:
        >>> percent(0.00321), percent(0.55), percent(1.5)
        ('0.32 %', '55 %', '150 %')
    """
    return f"{100 * fraction:.0f} %" if fraction >= 0.1 else f"{100 * fraction:.2g} %"


def spread_of(values: Sequence[float], write: Any = digits3) -> str:
    """Return the median and the quartiles of values as text."""
    low, middle, high = spread(values)
    return f"{write(middle)} ({write(low)} to {write(high)})"


def faster(row: Measured, than: str) -> list[float] | None:
    """Return for each round how many times as fast gankit is, or None if the contender `than` took no part."""
    if than not in row.seconds:
        return None
    return ratios(row.seconds[than], row.seconds[GANKIT], row.row["replicas"] or 1)


def speed_table(rows: Sequence[Measured]) -> str:
    """Return the table of speeds."""
    lines = []
    for row in rows:
        step = statistics.median(row.seconds[GANKIT])
        rate = f"{digits3(1 / step)}"
        if row.row["replicas"]:
            rate += f" ({digits3(row.row['replicas'] / step)} GAN-steps/s)"
        beside = [faster(row, than) for than in (TUTORIAL, RESIDENT)]
        name = row.name if row.mode == row.row["execution"] else f"{row.name}; fell back to {row.mode}: {row.reason}"
        lines.append(
            (
                name,
                spread_of(row.seconds[GANKIT], short),
                rate,
                digits3(row.images / step),
                *("-" if one is None else f"{spread_of(one)} x" for one in beside),
            )
        )
    return table(("row", "time per step", "steps/s", "images/s", "tutorial", "resident"), lines)


def policy_table(rows: Sequence[Measured], others: Sequence[Measured]) -> str:
    """Return the table of rows that were measured under two policies of waiting.

    Args:
        rows: The rows under the first policy.
        others: The rows under the other one.
    """
    lines = []
    other_rows = {row.name: row for row in others}
    for row in rows:
        if other := other_rows.get(row.name):
            here, there = row.seconds[GANKIT], other.seconds[GANKIT]
            factor = statistics.median(there) / statistics.median(here)
            beside = [faster(other, than) for than in (TUTORIAL, RESIDENT)]
            lines.append(
                (
                    row.name,
                    spread_of(here, short),
                    spread_of(there, short),
                    f"{digits3(factor)} x",
                    *("-" if one is None else f"{spread_of(one)} x" for one in beside),
                )
            )
    first, second = rows[0].wait_policy, others[0].wait_policy
    heads = ("row", f"{first}, per step", f"{second}, per step", f"{second} / {first}")
    return table((*heads, f"tutorial, {second}", f"resident, {second}"), lines)


def cost_table(rows: Sequence[Measured], peaks: Peaks) -> str:
    """Return the table of work, memory, and time to build."""
    lines = []
    for row in rows:
        step = statistics.median(row.seconds[GANKIT])
        precision = row.row["precision"]
        arithmetic = percent(arithmetic_floor(row.work, peaks.flops[precision]) / step)
        if precision == "bfloat16" and emulates_bfloat16(peaks.device):
            arithmetic = "emulated"
        memory = "-" if row.peak_memory_bytes is None else f"{digits3(row.peak_memory_bytes / 2**20)} MiB"
        lines.append(
            (
                row.name,
                f"{row.work.flops / 1e9:.3g} GFLOP",
                f"{row.work.bytes / 1e6:.3g} MB",
                arithmetic,
                percent(memory_floor(row.work, peaks.copied) / step),
                memory,
                "-" if row.kernels is None else row.kernels,
                f"{row.compile_seconds:.1f} s" if row.compile_seconds else "-",
                f"{row.capture_seconds:.1f} s" if row.capture_seconds else "-",
            )
        )
    heads = ("row", "computes", "moves", "of arithmetic floor", "of memory floor", "peak memory", "kernels")
    return table((*heads, "compile", "capture"), lines)


def others_table(rows: Sequence[Measured]) -> str | None:
    """Return the table of other libraries, or None if there are none."""
    lines = []
    for row in rows:
        for name in row.seconds:
            if name not in (GANKIT, TUTORIAL, RESIDENT, VANILLA):
                line = spread_of(faster(row, name) or [])
                lines.append((row.name, name, spread_of(row.seconds[name], short), f"{line} x"))
    return table(("row", "library", "time per step", "gankit is faster by"), lines) if lines else None


def penalty_table(rows: Sequence[Measured]) -> str | None:
    """Return the table of losses and penalties compared with the vanilla GAN, or None if there are none."""
    lines = [
        (row.name, spread_of(row.seconds[VANILLA], short), f"{spread_of(over_vanilla(row))} x")
        for row in rows
        if VANILLA in row.seconds
    ]
    return table(("row", "time per vanilla step", "a critic step of the row takes"), lines) if lines else None


def over_vanilla(row: Measured) -> list[float]:
    """Return for each round how many vanilla steps each update of D of a row takes."""
    return ratios(row.seconds[GANKIT], row.seconds[VANILLA], 1 / row.row["discriminator_steps"])


def contender_table(rows: Sequence[Measured]) -> str:
    """Return the table of the scripts' times, and of the steps that each median is taken over."""
    lines = []
    for row in rows:
        times = [spread_of(row.seconds[name], short) for name in (TUTORIAL, RESIDENT)]
        steps = " / ".join(str(row.steps[name]) for name in (GANKIT, TUTORIAL, RESIDENT))
        lines.append((row.name, *times, f"{len(row.seconds[GANKIT])} rounds of {steps} steps"))
    return table(("row", "tutorial, per step", "resident, per step", "gankit / tutorial / resident"), lines)


def overhead_table(seconds: Mapping[str, Sequence[float]]) -> str:
    """Return the table of the trainer and the loop by hand."""
    lines = [(name, spread_of(values, short)) for name, values in seconds.items()]
    over = ratios(seconds["trainer"], seconds["by hand"])
    return table(("what", "time per step"), [*lines, ("trainer / by hand", spread_of(over, lambda x: f"{x:.3f}"))])


def goal_table(found: Iterable[Goal]) -> str:
    """Return the table of goals."""
    words = {True: "yes", False: "no", None: "-"}
    return table(("goal", "wanted", "measured", "met"), [(g.what, g.wanted, g.measured, words[g.met]) for g in found])


def goals(rows: Sequence[Measured], device: torch.device, overhead: Mapping[str, Sequence[float]]) -> list[Goal]:
    """Return the goals for a kind of device."""
    found = []
    if overhead:
        middle = statistics.median(ratios(overhead["trainer"], overhead["by hand"]))
        found.append(Goal("trainer over a loop by hand", "at most 2 %", f"{100 * (middle - 1):.1f} %", middle <= 1.02))
    return found + (_cuda_goals(rows) if device.type == "cuda" else _cpu_goals(rows, device))


def _cpu_goals(rows: Sequence[Measured], device: torch.device) -> list[Goal]:
    found = []
    wanted = (("float32", "eager", 1.35), ("bfloat16", "eager", 2.2), ("bfloat16", "compile", 2.5))
    for precision, execution, factor in wanted:
        row = _find(rows, batch_size=128, precision=precision, execution=execution)
        note = " (emulated here)" if precision == "bfloat16" and emulates_bfloat16(device) else ""
        what = f"batch 128, {precision}{note}, {execution}"
        found += [_ratio_goal(row, what, than, factor) for than in (TUTORIAL, RESIDENT)]
    return found


def _cuda_goals(rows: Sequence[Measured]) -> list[Goal]:
    found = []
    for batch_size, precision, execution, limit in (
        (128, "tf32", "cuda_graph", 250e-6),
        (128, "tf32", "compile+cuda_graph", 120e-6),
        (1024, "tf32", "compile+cuda_graph", 200e-6),
        (8192, "bfloat16", "compile+cuda_graph", 350e-6),
    ):
        row = _find(rows, batch_size=batch_size, precision=precision, execution=execution)
        what = f"batch {batch_size}, {precision}, {execution}: a step"
        step = None if row is None else statistics.median(row.seconds[GANKIT])
        measured = "not measured" if step is None else short(step)
        found.append(Goal(what, f"at most {short(limit)}", measured, None if step is None else step <= limit))
    graph = _find(rows, batch_size=128, precision="tf32", execution="cuda_graph")
    for than, factor in ((TUTORIAL, 60), (RESIDENT, 10), ("torchgan", 12)):
        found.append(_ratio_goal(graph, "batch 128, tf32, cuda_graph", than, factor))
    many = [row for row in rows if row.row["replicas"] == 64]
    rates = [64 / statistics.median(row.seconds[GANKIT]) for row in many]
    measured = f"{max(rates):,.0f} GAN-steps/s" if rates else "not measured"
    best = max(rates) >= 25_000 if rates else None
    found.append(Goal("64 replicas, batch 128, tf32", "at least 25,000 GAN-steps/s", measured, best))
    return [*found, _penalty_goal(rows)]


def _penalty_goal(rows: Sequence[Measured]) -> Goal:
    what, wanted = "WGAN-GP over vanilla, a critic step", "at most 2 x"
    for row in rows:
        if row.row["loss"] == "wasserstein" and VANILLA in row.seconds:
            over = over_vanilla(row)
            return Goal(what, wanted, f"{spread_of(over)} x", statistics.median(over) <= 2)
    return Goal(what, wanted, "not measured", None)


def _ratio_goal(row: Measured | None, what: str, than: str, factor: float) -> Goal:
    found = None if row is None else faster(row, than)
    words = "not measured" if found is None else f"{spread_of(found)} x"
    met = None if found is None else statistics.median(found) >= factor
    return Goal(f"{what}, against {than}", f"at least {factor:g} x", words, met)


def _find(rows: Sequence[Measured], **settings: object) -> Measured | None:
    plain = {"preset": "vanilla_mnist", "penalty": None, "replicas": None} | settings
    return next((row for row in rows if plain.items() <= row.row.items()), None)


def _any(rows: Sequence[Measured], setting: str) -> bool:
    return any(row.row[setting] for row in rows)
