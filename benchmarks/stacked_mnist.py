"""How long a GPU needs for all 1,000 modes of StackedMNIST: `python -m benchmarks.stacked_mnist`.

Each seed trains the preset `stacked_mnist` until 26,000 samples have all 1,000 modes and a reverse KL divergence of at
most 0.08, or until the last step. The time is that of training alone, from the first step, with capturing and without
the evaluations between. The samples are classified by `gankit.metrics.stacked_mnist_modes`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.report import RESULTS, hardware, spread_of, stem, table, versions
from gankit.metrics import stacked_mnist_modes
from gankit.presets import Preset, stacked_mnist
from gankit.seeds import stream_seed

MODES = 1_000
HIGHEST_KL = 0.08


@dataclass(frozen=True)
class Course:
    """The training of one seed: what was found after `steps` steps and `seconds` seconds, evaluation by evaluation."""

    seed: int
    steps: list[int]
    seconds: list[float]
    modes: list[int]
    kl: list[float]

    @property
    def has_all(self) -> bool:
        """Whether the last evaluation found all modes, evenly enough."""
        return self.modes[-1] == MODES and self.kl[-1] <= HIGHEST_KL


def measure(
    preset: Preset, device: torch.device, seed: int, *, every_steps: int, steps: int, samples: int, root: str | None
) -> Course:
    """Train one seed until it has all modes, or to the last step."""
    trainer = preset(device=device, seed=seed)
    batches = preset.batches(device=device, seed=seed, root=root)
    course, seconds = Course(seed, [], [], [], []), 0.0
    for step in [*range(every_steps, steps, every_steps), steps]:
        started = time.perf_counter()
        trainer.fit(batches, steps=step)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds += time.perf_counter() - started
        images = trainer.sample(samples, seed=stream_seed(seed, "evaluation"))
        low, high = preset.sample_range or (0.0, 1.0)
        found = stacked_mnist_modes(((images - low) / (high - low)).clamp(0, 1))
        course.steps.append(step)
        course.seconds.append(seconds)
        course.modes.append(found.captured_modes)
        course.kl.append(found.reverse_kl)
        if course.has_all:
            break
    return course


def to_markdown(courses: Sequence[Course]) -> str:
    """Return the last evaluation of each seed, and the spread of the times of those that have all modes."""
    lines = [
        (one.seed, one.steps[-1], f"{one.seconds[-1]:.1f} s", one.modes[-1], f"{one.kl[-1]:.3f}") for one in courses
    ]
    text = table(("seed", "steps", "training", "modes", "reverse KL"), lines)
    times = [one.seconds[-1] for one in courses if one.has_all]
    summary = f"{len(times)} of {len(courses)} seeds have {MODES:,} modes and a reverse KL of at most {HIGHEST_KL}"
    return f"{text}\n\n{summary}" + (f"; seconds: {spread_of(times)}" if times else "")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stacked_mnist", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seeds", type=int, default=10, help="the number of seeds, from 0; default: 10")
    parser.add_argument("--steps", type=int, default=stacked_mnist.steps, help="the most steps of a seed")
    parser.add_argument("--every-steps", type=int, default=500, help="steps between two evaluations; default: 500")
    parser.add_argument("--samples", type=int, default=26_000, help="the samples of an evaluation; default: 26,000")
    parser.add_argument("--root", help="the folder of MNIST; default: the 5,000 digits that come with gankit")
    parser.add_argument("--out", type=Path, help=f"the JSON file; default: a new one in {RESULTS.name}/")
    options = parser.parse_args(arguments)
    device, date = torch.device(options.device), datetime.date.today().isoformat()
    if device.type == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here; --device cpu measures the CPU")
        return 1
    sizes = {"every_steps": options.every_steps, "steps": options.steps, "samples": options.samples}
    courses: list[Course] = []
    for seed in range(options.seeds):
        courses.append(measure(stacked_mnist, device, seed, root=options.root, **sizes))
        print(f"seed {seed}: {courses[-1].modes[-1]} modes after {courses[-1].seconds[-1]:.1f} s", flush=True)
    out = options.out or RESULTS / f"{stem(device, date)}-stacked-mnist.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    form = {
        "date": date,
        "hardware": hardware(device),
        "versions": versions(),
        "preset": stacked_mnist.to_dict(),
        "root": options.root is not None,
        **sizes,
        "courses": [asdict(one) for one in courses],
    }
    out.write_text(json.dumps(form, indent=2) + "\n", encoding="utf-8")
    print(f"\n{to_markdown(courses)}\n\nwritten to {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
