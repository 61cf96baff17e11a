"""Train the vanilla GAN on all of MNIST with each of six losses, with R1 and without, and score its digits.

    OMP_NUM_THREADS=1 python -m tools.measure_losses --root DIR --out runs/losses

Each of the twelve trainings keeps an average of the generator's weights, and both the averaged weights and the raw ones
are scored, so one training gives two rows. It prints a table in Markdown. `--root` names the folder that contains
MNIST. A training that is already finished in `--out` is not repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

from gankit.cli import main
from gankit.files import write_text
from gankit.metrics import Evaluation

LOSSES = ("minimax", "non_saturating", "least_squares", "hinge", "wasserstein", "relativistic")
PENALTIES = ("none", "r1:weight=1")
METRICS = {
    "parzen_log_likelihood": "Parzen ↑",
    "mnist_frechet_distance": "Fréchet ↓",
    "mnist_kernel_distance": "kernel ↓",
    "mnist_recall": "recall ↑",
    "mnist_coverage": "coverage ↑",
    "mnist_smallest_class_share": "smallest class ↑",
    "mnist_classes": "classes ↑",
}
"""The columns of the table."""


def train(loss: str, penalty: str, root: str, out: Path, flags: list[str]) -> tuple[Evaluation, float]:
    """Train one GAN and return its scores with the duration of the command in seconds."""
    folder = out / f"{loss}_{penalty.partition(':')[0]}"
    duration = folder / "seconds.json"
    if not duration.exists():
        named = ["--loss", loss, *(() if penalty == "none" else ("--regularizer", penalty))]
        started = time.perf_counter()
        words = ["--data", "mnist", "--root", root, "--steps", "4680", "--averaging-decay", "0.999", "--seed", "0"]
        code = main(["train", "vanilla_mnist", *named, *words, "--no-progress", "--out", str(folder), *flags])
        if code != 0:
            sys.exit(code)
        write_text(duration, json.dumps(time.perf_counter() - started), "the result")
    scores = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return Evaluation.from_dict(scores), json.loads(duration.read_text(encoding="utf-8"))


def row(*cells: str) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def measure(root: str, out: Path, flags: list[str]) -> None:
    """Train all of them and print the table."""
    lines: list[str] = []
    for loss in LOSSES:
        for penalty in PENALTIES:
            with contextlib.redirect_stdout(sys.stderr):
                evaluation, seconds = train(loss, penalty, root, out, flags)
            if not lines:
                real = (f"{evaluation.mean(metric).real:.4g}" for metric in METRICS)
                lines += [row("loss", "penalty", "weights", *METRICS.values(), "seconds")]
                lines += [row(*["---"] * (len(METRICS) + 4)), row("real digits", "", "", *real, "")]
            for weights in evaluation.scores:
                values = (f"{evaluation.mean(metric, weights).value:.4g}" for metric in METRICS)
                lines += [row(f"`{loss}`", penalty, weights, *values, f"{seconds:.0f}")]
    print("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options, further = parser.parse_known_args()
    measure(options.root, options.out, further)
