"""The cost of training in several processes: `torchrun --nproc-per-node 2 -m benchmarks.ranks`.

The batch of a rank has the same size for any number of ranks (weak scaling). In each round, the same trainers are timed
in three ways:

- **alone**: the first rank trains while the others wait;
- **apart**: all ranks train at once and exchange nothing, which shows how they compete for memory, caches and clock;
- **together**: all ranks train at once and exchange gradients, as usual.

The efficiency is alone / together. It is the product of what the machine costs (alone / apart) and what the exchange
costs (apart / together). A rank on a CPU has one thread.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.report import RESULTS, hardware, spread_of, table, versions
from benchmarks.timing import ratios, steps_that_fit
from gankit.presets import PRESETS
from gankit.training import AdversarialTrainer, Launch, Ranks

PRESET_NAMES = ("vanilla_mnist", "dcgan_mnist", "ring")


def bytes_per_step(step: Callable[[], object]) -> int:
    """Return the number of bytes that a step passes to its exchanges."""
    counted = [0]
    exchange = dist.all_reduce

    def counting(tensor: torch.Tensor, *arguments: object, **options: object) -> object:
        counted[0] += tensor.numel() * tensor.element_size()
        return exchange(tensor, *arguments, **options)

    dist.all_reduce = counting
    try:
        step()
    finally:
        dist.all_reduce = exchange
    return counted[0]


def bytes_sent(exchanged: float, ranks: int) -> float:
    """Return the bytes that a rank sends in a ring all-reduce: it passes on every part but its own, twice.

    Example:
        >>> bytes_sent(1000, 2), bytes_sent(1000, 8)
        (1000.0, 1750.0)
    """
    return 2 * (ranks - 1) / ranks * exchanged


def stepper(trainer: AdversarialTrainer, batches: list[torch.Tensor]) -> Callable[[], object]:
    """Return a function that makes one step on the next batch."""
    place = [0]

    def step() -> object:
        place[0] += 1
        return trainer.step(batches[place[0] % len(batches)])

    return step


def measure(name: str, ranks: Ranks, device: torch.device, rounds: int, seconds: float) -> dict[str, object]:
    """Return the seconds per step of the slowest rank in each round, and the bytes exchanged."""
    preset = PRESETS.get(name)
    made = iter(preset.batches(device=device))
    batches = [next(made) for _ in range(8)]
    together = stepper(preset(device=device), batches)
    apart = stepper(preset(device=device, ranks=Ranks()), batches)
    exchanged = bytes_per_step(together)

    def timed(step: Callable[[], object], count: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / count

    for step in (together, apart):
        timed(step, 3)
    own = timed(apart, 3)
    count = ranks.first(lambda: steps_that_fit(own, seconds, 3, 2000))
    taken: dict[str, list[float]] = {"alone": [], "apart": [], "together": []}
    for number in range(rounds):
        for kind in [*taken][number % 3 :] + [*taken][: number % 3]:
            dist.barrier()
            runs = kind != "alone" or ranks.is_first
            every = ranks.gather(timed(together if kind == "together" else apart, count) if runs else 0.0)
            taken[kind].append(max(every, default=0.0))
    return {"batch_size": preset.batch_size, "steps_a_round": count, "seconds": taken, "bytes_exchanged": exchanged}


def report(found: dict[str, dict[str, object]], ranks: int) -> str:
    """Return the table."""
    lines = []
    for name, row in found.items():
        seconds = row["seconds"]
        assert isinstance(seconds, dict)
        alone, apart, together = (seconds[kind] for kind in ("alone", "apart", "together"))
        exchanged = float(str(row["bytes_exchanged"]))
        lines.append(
            [
                f"`{name}`, batch {row['batch_size']} per rank",
                spread_of([1e3 * one for one in alone]),
                spread_of([1e3 * one for one in together]),
                spread_of(ratios(alone, together)),
                spread_of(ratios(alone, apart)),
                spread_of(ratios(apart, together)),
                f"{exchanged / 1e6:.2f}",
                f"{bytes_sent(exchanged, ranks) / 1e6:.2f}",
            ]
        )
    heads = ["preset", "alone, ms per step", f"{ranks} ranks, ms per step", "efficiency", "the machine's part"]
    return table([*heads, "the exchange's part", "MB exchanged per step", "MB sent per rank"], lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", default=PRESET_NAMES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="the time for each way in each round; default: 1")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    launch = Launch()
    if not launch.is_there:
        parser.error("start it by torchrun --nproc-per-node 2 -m benchmarks.ranks")
    with launch.joined() as ranks:
        device = torch.device("cuda", launch.local_rank) if torch.cuda.is_available() else torch.device("cpu")
        if device.type == "cpu":
            torch.set_num_threads(1)
        found = {name: measure(name, ranks, device, options.rounds, options.seconds) for name in options.presets}
        if not ranks.is_first:
            return
        text = report(found, ranks.size)
        about = {"hardware": hardware(device), "versions": versions(), "ranks": ranks.size, "rounds": options.rounds}
        name = re.sub(r"[^a-z0-9]+", "-", hardware(device)["device"].lower()).strip("-")
        stem = options.out / f"{name}-{ranks.size}-ranks-{time.strftime('%Y-%m-%d')}"
        stem.with_suffix(".json").write_text(json.dumps(about | {"rows": found}, indent=1) + "\n")
        words = ", ".join(f"{k} {v}" for k, v in (hardware(device) | versions()).items())
        stem.with_suffix(".md").write_text(
            f"# {ranks.size} ranks\n\n{words}; median and quartiles of {options.rounds} rounds.\n\n{text}\n"
        )
        print(text)


if __name__ == "__main__":
    main()
