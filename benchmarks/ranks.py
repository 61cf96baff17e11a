"""What training with several processes costs: `torchrun --nproc-per-node 2 -m benchmarks.ranks`.

Each rank has batches of the same size, whatever their number (weak scaling). Three things are timed in turn, in each
round on the same trainers:

- **alone**: the first rank steps, the others wait;
- **apart**: all step at once and exchange nothing, which shows what they take from each other: memory, caches, clock;
- **together**: all step at once, as they train.

Efficiency is alone / together. The rest of the time is lost to the machine (alone / apart) and to the exchange
(apart / together). A CPU rank has one thread.
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


def bytes_a_step(step: Callable[[], object]) -> int:
    """Return how many bytes a step hands to its exchanges."""
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
    """Return what a rank sends in a ring's all-reduce of so many bytes: it hands on each part but its own, twice.

    Example:
        >>> bytes_sent(1000, 2), bytes_sent(1000, 8)
        (1000.0, 1750.0)
    """
    return 2 * (ranks - 1) / ranks * exchanged


def stepper(trainer: AdversarialTrainer, batches: list[torch.Tensor]) -> Callable[[], object]:
    """Return a function that makes a step on the next batch."""
    place = [0]

    def step() -> object:
        place[0] += 1
        return trainer.step(batches[place[0] % len(batches)])

    return step


def measure(name: str, ranks: Ranks, device: torch.device, rounds: int, seconds: float) -> dict[str, object]:
    """Return the seconds a step in each round, of the slowest rank, and the bytes exchanged."""
    preset = PRESETS.get(name)
    made = iter(preset.batches(device=device))
    batches = [next(made) for _ in range(8)]
    together = stepper(preset(device=device), batches)
    apart = stepper(preset(device=device, ranks=Ranks()), batches)
    exchanged = bytes_a_step(together)

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
                f"`{name}`, batch {row['batch_size']} a rank",
                spread_of([1e3 * one for one in alone]),
                spread_of([1e3 * one for one in together]),
                spread_of(ratios(alone, together)),
                spread_of(ratios(alone, apart)),
                spread_of(ratios(apart, together)),
                f"{exchanged / 1e6:.2f}",
                f"{bytes_sent(exchanged, ranks) / 1e6:.2f}",
            ]
        )
    heads = ["preset", "alone, ms a step", f"{ranks} ranks, ms a step", "efficiency", "of it the machine"]
    return table([*heads, "of it the exchange", "MB exchanged a step", "MB a rank sends"], lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--presets", nargs="+", default=PRESET_NAMES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each kind in each round")
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
