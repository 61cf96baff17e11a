"""The time that checkpoints cost: `python -m benchmarks.saving`.

Two trainings of `vanilla_mnist` at batch 128 run in interleaved blocks, one with a `Checkpointer` and one without, and
each goes first in turn. In addition, single saves are timed: the copy in the training thread, and the write in the
other thread.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, hardware, short, spread_of, stem, table, versions
from benchmarks.timing import Contender, interleaved, ratios, seconds_per_step
from gankit.presets import vanilla_mnist
from gankit.training import Checkpointer

EVERY_STEPS = 100
WARMUP = 4


@dataclass(frozen=True)
class Saving:
    """The results of one run.

    Args:
        steps: The number of steps in a block.
        every_steps: The number of steps from one checkpoint to the next.
        seconds: The seconds per step in each block, `with` and `without` checkpoints.
        snapshot_seconds: The seconds that each save took in the training thread.
        write_seconds: The seconds that each write took in the other thread, while the training thread waited.
        checkpoint_bytes: The size of one checkpoint: all of its files.
    """

    steps: int
    every_steps: int
    seconds: dict[str, list[float]]
    snapshot_seconds: list[float]
    write_seconds: list[float]
    checkpoint_bytes: int

    @property
    def lost(self) -> list[float]:
        """The share of the time that checkpoints add to a block, for each pair of blocks."""
        return [ratio - 1 for ratio in ratios(self.seconds["with"], self.seconds["without"])]

    @property
    def lost_in_snapshots(self) -> list[float]:
        """The time of each snapshot as a share of the steps from one checkpoint to the next."""
        between = self.every_steps * statistics.median(self.seconds["without"])
        return [seconds / between for seconds in self.snapshot_seconds]

    def to_markdown(self) -> str:
        """Return the table."""
        blocks, saves = len(self.seconds["with"]), len(self.snapshot_seconds)
        rows = [
            ("a step without checkpoints", spread_of(self.seconds["without"], short), f"{blocks} blocks"),
            (f"a step with one every {self.every_steps} steps", spread_of(self.seconds["with"], short), "as many"),
            ("time lost", spread_of(self.lost, percent), "block by block"),
            ("one save, in the training thread", spread_of(self.snapshot_seconds, short), f"{saves} saves"),
            ("the same, as a share", spread_of(self.lost_in_snapshots, percent), f"of {self.every_steps} steps"),
            ("one write, in the other thread", spread_of(self.write_seconds, short), f"{saves} saves"),
            ("a checkpoint", f"{self.checkpoint_bytes / 2**20:.1f} MiB", "all of its files"),
        ]
        return table(("what", "median (quartiles)", "of"), rows)


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def steps_of(device: torch.device, checkpointer: Checkpointer | None) -> Contender:
    callbacks = [] if checkpointer is None else [checkpointer]
    trainer = vanilla_mnist(device=device, callbacks=callbacks)
    batches = vanilla_mnist.batches(device=device)
    return lambda count: trainer.fit(batches, steps=trainer.steps_done + count) and None


def measure(device: torch.device, folder: Path, *, rounds: int, steps: int, every_steps: int, saves: int) -> Saving:
    """Train in interleaved blocks, then save a trained model again and again.

    Args:
        device: The device of the trainings.
        folder: The folder for checkpoints.
        rounds: The number of blocks with checkpoints, and of blocks without.
        steps: The number of steps in a block. A multiple of `every_steps` lets every block save equally often.
        every_steps: The number of steps from one checkpoint to the next.
        saves: The number of single saves that are timed.
    """
    with Checkpointer(folder / "blocks", every_steps=every_steps) as checkpointer:
        contenders = {"without": steps_of(device, None), "with": steps_of(device, checkpointer)}
        for run in contenders.values():
            seconds_per_step(run, every_steps, device)  # so that each block begins right after a checkpoint
        seconds = interleaved(contenders, device, rounds=rounds, steps=dict.fromkeys(contenders, steps))
    trainer = vanilla_mnist(device=device)
    trainer.fit(vanilla_mnist.batches(device=device), steps=WARMUP)
    snapshots, writes = [], []
    with Checkpointer(folder / "saves", every_steps=1) as checkpointer:
        for number in range(saves + 1):  # the first save also creates the folder and the thread, and is not timed
            started = time.perf_counter()
            checkpointer.save(trainer)
            copied = time.perf_counter()
            checkpointer.flush()
            if number:
                snapshots.append(copied - started)
                writes.append(time.perf_counter() - copied)
    size = sum(path.stat().st_size for path in (folder / "saves").rglob("*") if path.is_file())
    return Saving(steps, every_steps, seconds, snapshots, writes, size)


def to_dict(saving: Saving, device: torch.device, date: str) -> dict[str, Any]:
    found = {"date": date, "hardware": hardware(device), "versions": versions()}
    return found | asdict(saving) | {"lost": saving.lost, "lost_in_snapshots": saving.lost_in_snapshots}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saving", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=9, help="the number of blocks of each kind; default: 9")
    parser.add_argument("--steps", type=int, default=EVERY_STEPS, help=f"steps in a block; default: {EVERY_STEPS}")
    parser.add_argument("--every-steps", type=int, default=EVERY_STEPS, help="steps from one checkpoint to the next")
    parser.add_argument("--saves", type=int, default=21, help="the number of single saves; default: 21")
    parser.add_argument("--folder", type=Path, help="the folder for checkpoints; default: a temporary one")
    parser.add_argument("--out", type=Path, help=f"the JSON file; default: a new one in {RESULTS.name}/")
    options = parser.parse_args(arguments)
    device, date = torch.device(options.device), datetime.date.today().isoformat()
    sizes = {"rounds": options.rounds, "steps": options.steps, "every_steps": options.every_steps}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        saving = measure(device, Path(folder), saves=options.saves, **sizes)
    out = options.out or RESULTS / f"{stem(device, date)}-saving.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    form = to_dict(saving, device, date)
    out.write_text(json.dumps(form, indent=2) + "\n", encoding="utf-8")
    print(table(("", ""), [*form["hardware"].items(), *form["versions"].items()]))
    print(f"\n{saving.to_markdown()}\n\nwritten to {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
