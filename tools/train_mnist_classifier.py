"""Train the classifier of MNIST's digits that the metrics use, and write it into the package.

    python -m tools.train_mnist_classifier --root data

It took 19 minutes on one thread of a machine that was busy with other work. A half of each batch is as it is, up to
shifts, and to the other half noise or blur is added. The loss is the cross-entropy of the class plus the squared error
of two further outputs, which estimate the strength of the noise and of the blur from the features. These two outputs
are not kept. A classifier that has not seen noise (`--plain`) takes noisy digits for other classes, and in its features
a slight blur raises precision: `tools.measure_mnist_metrics` compares both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from gankit.data.digits import mnist
from gankit.data.scaling import scaled
from gankit.metrics.mnist.classifier import FEATURES, MnistClassifier

TARGET = Path(__file__).parents[1] / "gankit" / "metrics" / "mnist"


@dataclass(frozen=True)
class Recipe:
    """The numbers of the training."""

    epochs: int = 8
    batch_size: int = 128
    optimizer: str = "AdamW, one cycle of the learning rate"
    largest_learning_rate: float = 3e-3
    weight_decay: float = 0.01
    largest_shift: int = 2
    """In pixels, along each axis."""
    largest_noise: float = 0.5
    """The standard deviation of Gaussian noise."""
    largest_blur: float = 2.0
    """The standard deviation of a Gaussian kernel, in pixels."""
    strengths_weight: float = 1.0


RECIPE = Recipe()


def shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return images, each moved by whole pixels, at most `most` along each axis."""
    padded = F.pad(images[:, 0], (most,) * 4)
    rows, columns = torch.randint(2 * most + 1, (2, len(images), 1), generator=generator) + torch.arange(28)
    numbers = torch.arange(len(images))[:, None, None]
    return padded[numbers, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def noisy(images: Tensor, strengths: Tensor, generator: torch.Generator) -> Tensor:
    """Return images with Gaussian noise of these standard deviations, cut off to [0, 1]."""
    noise = torch.randn(images.shape, generator=generator)
    return (images + strengths[:, None, None, None] * noise).clamp(0, 1)


def blurred(images: Tensor, strengths: Tensor) -> Tensor:
    """Return images convolved with Gaussian kernels of these standard deviations, in pixels."""
    distances = torch.arange(-5, 6)
    kernels = torch.exp(-0.5 * (distances / strengths[:, None].clamp(min=0.05)) ** 2)
    kernels = kernels / kernels.sum(1, keepdim=True)
    rows = F.conv2d(images.transpose(0, 1), kernels[:, None, None, :], padding=(0, 5), groups=len(images))
    return F.conv2d(rows, kernels[:, None, :, None], padding=(5, 0), groups=len(images)).transpose(0, 1)


def degraded(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images, a quarter noisy and a quarter blurred, and the strengths `(N, 2)` of both in [0, 1]."""
    quarter = len(images) // 4
    strengths = torch.zeros(len(images), 2)
    strengths[:quarter, 0] = torch.rand(quarter, generator=generator)
    strengths[quarter : 2 * quarter, 1] = torch.rand(quarter, generator=generator)
    noise = noisy(images[:quarter], strengths[:quarter, 0] * RECIPE.largest_noise, generator)
    blur = blurred(images[quarter : 2 * quarter], strengths[quarter : 2 * quarter, 1] * RECIPE.largest_blur)
    return torch.cat([noise, blur, images[2 * quarter :]]), strengths


def train(images: Tensor, labels: Tensor, seed: int, *, plain: bool) -> MnistClassifier:
    """Return a classifier trained on bytes `(N, 1, 28, 28)` and their labels, without noise and blur if `plain`."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network, strengths_head = MnistClassifier().to(memory_format=torch.channels_last), nn.Linear(FEATURES, 2)
    parameters = [*network.parameters(), *strengths_head.parameters()]
    rate, size, epochs = RECIPE.largest_learning_rate, RECIPE.batch_size, RECIPE.epochs
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=RECIPE.weight_decay)
    steps = epochs * (len(images) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, cycle_momentum=False)
    began = time.monotonic()
    for epoch in range(epochs):
        losses = torch.zeros(2)
        for rows in torch.randperm(len(images), generator=generator).split(size)[: len(images) // size]:
            batch = shifted(scaled(images[rows], (0.0, 1.0)), RECIPE.largest_shift, generator)
            batch, strengths = (batch, torch.zeros(size, 2)) if plain else degraded(batch, generator)
            with torch.autocast("cpu", torch.bfloat16):
                features = network.body(batch.contiguous(memory_format=torch.channels_last))
            features = features.float()
            class_loss = F.cross_entropy(network.head(features), labels[rows])
            strengths_loss = F.mse_loss(strengths_head(features), strengths)
            optimizer.zero_grad()
            (class_loss + RECIPE.strengths_weight * strengths_loss).backward()
            optimizer.step()
            schedule.step()
            losses += torch.stack([class_loss, strengths_loss]).detach()
        class_mean, strengths_mean = (losses / (len(images) // size)).tolist()
        print(
            f"epoch {epoch + 1}: class {class_mean:.4f}, strengths {strengths_mean:.5f}, "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
    return network.eval()


@torch.no_grad()
def confusion(network: MnistClassifier, images: Tensor, labels: Tensor) -> list[list[int]]:
    """Return how many digits of each class (the row) are taken for each class (the column)."""
    guesses = torch.cat([network(scaled(part, (0.0, 1.0))).argmax(1) for part in images.split(1_000)])
    return torch.bincount(labels * 10 + guesses, minlength=100).reshape(10, 10).tolist()


def main() -> None:
    """Train, test, and write the weights and their description."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="the folder that contains MNIST/raw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="leave out noise and blur, to compare; needs --out")
    parser.add_argument("--out", type=Path, default=TARGET, help="the folder to write into")
    arguments = parser.parse_args()
    if arguments.plain and arguments.out == TARGET:
        parser.error("--plain needs --out, because the package holds the classifier with noise and blur")
    training, test = (mnist(arguments.root, train=one, download=False) for one in (True, False))
    assert training.labels is not None
    assert test.labels is not None
    began = time.monotonic()
    network = train(training.samples, training.labels, arguments.seed, plain=arguments.plain)
    seconds = time.monotonic() - began
    matrix = confusion(network, test.samples, test.labels)
    accuracy = sum(matrix[digit][digit] for digit in range(10)) / len(test)
    weights = save({name: value.contiguous() for name, value in network.state_dict().items()})
    description = {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "command": f"python -m tools.train_mnist_classifier --root DIR --seed {arguments.seed}",
        "data": "MNIST's 60,000 training digits",
        "seed": arguments.seed,
        "recipe": asdict(RECIPE),
        "seconds": round(seconds),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "test_accuracy": accuracy,
        "test_confusion": matrix,
    }
    arguments.out.mkdir(exist_ok=True, parents=True)
    (arguments.out / "weights.safetensors").write_bytes(weights)
    text = re.sub(r"\s+(?=\d+,?\n)|(?<=\d)\s+(?=\])", " ", json.dumps(description, indent=1))  # a row on a line
    (arguments.out / "weights.json").write_text(text + "\n", encoding="utf-8")
    print(f"test accuracy {100 * accuracy:.2f} %, {len(weights):,} bytes, {seconds:.0f} s")


if __name__ == "__main__":
    main()
