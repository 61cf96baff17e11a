"""Measure what the metrics of MNIST's digits can see: what they say of real digits that were spoiled in known ways.

    python -m tools.measure_mnist_metrics [--root DIR] [--weights FOLDER]

It prints a table in Markdown, with the mean over three random selections of 2,000 training digits (10,000 with
`--root`, the folder that contains MNIST). `--weights` names a folder with other weights of the classifier, such as
those of `tools.train_mnist_classifier --plain --out FOLDER`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from gankit.data.digits import mnist, mnist_5k
from gankit.data.scaling import scaled
from gankit.metrics import MnistEvaluator, Score
from gankit.metrics.mnist import classifier
from tools.train_mnist_classifier import blurred, noisy

SELECTIONS = 3
Pool = tuple[Tensor, Tensor]
"""All training digits in [0, 1], and their labels."""


def chosen(
    pool: Pool, count: int, generator: torch.Generator, kept: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return random digits, of those whose labels are kept."""
    images, labels = pool
    rows = torch.arange(len(images)) if kept is None else kept(labels).nonzero().flatten()
    return images[rows[torch.randperm(len(rows), generator=generator)[:count]]]


def with_noise(strength: float) -> Callable[[Pool, int, torch.Generator], Tensor]:
    """Return the spoiling by Gaussian noise of a standard deviation."""
    return lambda pool, count, random: noisy(chosen(pool, count, random), torch.full((count,), strength), random)


def with_blur(strength: float) -> Callable[[Pool, int, torch.Generator], Tensor]:
    """Return the spoiling by a Gaussian blur of a standard deviation in pixels."""
    return lambda pool, count, random: blurred(chosen(pool, count, random), torch.full((count,), strength))


def half_noisy(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Return digits, of which every second one is very noisy."""
    strengths = torch.tensor([0.0, 0.4]).repeat(count // 2)
    return noisy(chosen(pool, count, generator), strengths, generator)


def without_eights(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Return digits without one of the classes."""
    return chosen(pool, count, generator, lambda labels: labels != 8)


def more_ones(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Return digits with one class twice as often."""
    ones = chosen(pool, count // 10, generator, lambda labels: labels == 1)
    return torch.cat([chosen(pool, count - len(ones), generator), ones])


def copies(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Return few digits, each of which comes 20 times."""
    return chosen(pool, count // 20, generator).repeat(20, 1, 1, 1)


def blends(pool: Pool, count: int, generator: torch.Generator) -> Tensor:
    """Return means of two digits."""
    return (chosen(pool, count, generator) + chosen(pool, count, generator)) / 2


CASES: dict[str, Callable[[Pool, int, torch.Generator], Tensor]] = {
    "other real training digits": chosen,
    **{f"noise, {strength:g}": with_noise(strength) for strength in (0.05, 0.1, 0.2, 0.4)},
    "noise of 0.4 on every second digit": half_noisy,
    **{f"blur, {strength:g} pixels": with_blur(strength) for strength in (0.5, 1.0, 1.5)},
    "no eights": without_eights,
    "ones twice as often": more_ones,
    "each digit 20 times": copies,
    "means of two digits": blends,
}


def row(name: str, values: list[str]) -> str:
    """Return a row of the table."""
    return "| " + " | ".join([name, *values]) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root")
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args()
    if arguments.weights:
        network = classifier.MnistClassifier().eval()
        network.load_state_dict(load_file(arguments.weights / "weights.safetensors"))
        classifier.mnist_classifier = lambda device=None: network
    data = mnist_5k() if arguments.root is None else mnist(arguments.root, download=False)
    assert data.labels is not None
    pool = (scaled(data.samples, (0.0, 1.0)), data.labels)
    evaluate = MnistEvaluator(arguments.root)
    names = [name.removeprefix("mnist_") for name in evaluate.metrics]
    print(row("", [name.replace("_", " ") for name in names]))
    print(row("---", ["---"] * len(names)))
    for case, spoil in CASES.items():
        found: list[dict[str, Score]] = []
        for seed in range(1, SELECTIONS + 1):
            found.append(evaluate(spoil(pool, evaluate.samples, torch.Generator().manual_seed(seed))))
        if case == next(iter(CASES)):
            print(row("noise floor", [f"{score.real:.3g}" for score in found[0].values()]), flush=True)
        values = [torch.tensor([one[name].value for one in found]) for name in evaluate.metrics]
        print(row(case, [f"{one.mean():.3g} ± {float(f'{one.std():.1g}'):g}" for one in values]), flush=True)


if __name__ == "__main__":
    main()
