"""Complete digits from their upper halves, with a pixel loss alone and with an adversarial term (pix2pix).

    pip install matplotlib
    OMP_NUM_THREADS=1 python -m tools.picture_to_picture --out runs/picture_to_picture

A small U-Net gets a digit whose lower half is hidden and makes the whole digit. It learns from the 5,000 digits that
come with gankit, and is measured on the 2,000 others. Each way is trained on three seeds. The program prints a table in
Markdown and draws `picture-to-picture.png` beside the results. A training that is already finished in `--out` is not
repeated.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gankit import Adversary, Spec
from gankit.data.digits import mnist_5k, mnist_test_2k
from gankit.metrics import frechet_distance
from gankit.metrics.mnist.classifier import features_and_labels
from tools.compare_autoencoders import batches_of, pixel_error, sharpness, spread
from tools.ways import Result, draw_rows, once, table

WAYS = ("pixel loss alone", "with `patch`")
"""The ways in which a model is trained."""
COLUMNS = {
    "error": "pixel error ↓",
    "sharpness": "sharpness → 1",
    "distance": "Fréchet ↓",
    "kept": "class kept ↑",
    "seconds": "seconds of a core",
}
"""The columns of the table."""
SHOWN = 12
"""The number of held-out digits in the picture."""


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Args:
        seed: The seed of the initial weights and the order of the digits.
        steps: The number of steps.
        batch: The number of digits of a batch.
        width: The number of channels after the first convolution of the U-Net.
        discriminator_width: That of D.
        rate: The learning rate of both.
        weight: The weight of the adversarial term beside the pixel loss.
    """

    seed: int
    steps: int = 1800
    batch: int = 32
    width: int = 16
    discriminator_width: int = 16
    rate: float = 1e-3
    weight: float = 0.03


class UNet(nn.Module):
    """A small U-Net from pictures of 28 x 28 pixels to others.

    Formula: two convolutions with a stride of 2, through 128 numbers for the whole picture, and two transposed
    convolutions, each of which sees what the encoder had at its size as well.

    Args:
        width: The number of channels after the first convolution.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        inner = (2 * width, 7, 7)
        self.down = nn.Sequential(nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.further_down = nn.Sequential(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.bottom = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(inner), 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, math.prod(inner)),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, inner),
        )
        self.up = nn.Sequential(nn.ConvTranspose2d(4 * width, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.further_up = nn.Sequential(nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.last = nn.Conv2d(width + 1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pictures for pictures `(N, 1, 28, 28)`."""
        down = self.down(x)
        bottom = self.further_down(down)
        up = self.up(torch.cat([bottom, self.bottom(bottom)], dim=1))
        up = self.further_up(torch.cat([down, up], dim=1))
        return self.last(torch.cat([x, up], dim=1))


def upper_half(digits: Tensor) -> Tensor:
    """Return digits `(N, 1, H, W)` whose lower halves are black."""
    shown = digits.clone()
    shown[..., digits.shape[-2] // 2 :, :] = 0
    return shown


def train(settings: Settings, digits: Tensor, *, has_term: bool) -> UNet:
    """Return a trained model: the plain loop of the page, with the adversarial term or without."""
    torch.manual_seed(settings.seed)
    model = UNet(width=settings.width)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.rate)
    D = Spec(
        "patch",
        sample_shape=(1, 28, 28),
        condition_channels=1,
        hidden_dim=settings.discriminator_width,
        depth=2,
        normalization="none",
    )
    adversary = Adversary(
        D, loss="non_saturating", regularizers=[Spec("r1", weight=1.0, every=4)], weight=settings.weight
    )
    optimizer_D = torch.optim.Adam(adversary.parameters(), lr=settings.rate, betas=(0.5, 0.999))
    batches = batches_of(digits, settings.batch, settings.seed)
    for step in range(settings.steps):
        x = next(batches)
        shown = upper_half(x)
        y = model(shown)
        loss = F.l1_loss(y, x)
        if has_term:
            loss = loss + adversary.generator_loss(fake=y, real=x, condition=shown, step=step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if has_term:
            optimizer_D.zero_grad()
            adversary.discriminator_loss(real=x, fake=y, condition=shown, step=step).backward()
            optimizer_D.step()
    return model


def scores_of(made: Tensor, digits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the scores of completed digits.

    `error` and `sharpness` are those of the lower halves. `distance` is the Fréchet distance to the originals in the
    features of gankit's classifier, and `kept` the share of the completed digits that it takes for the class of the
    original.
    """
    half = digits.shape[-2] // 2
    features, found = features_and_labels(made)
    return {
        "error": pixel_error(made[..., half:, :], digits[..., half:, :]),
        "sharpness": sharpness(made[..., half:, :], digits[..., half:, :]),
        "distance": frechet_distance(features, features_and_labels(digits)[0]),
        "kept": (found == labels).float().mean().item(),
    }


def result_of(settings: Settings) -> Result:
    """Train in both ways, and return the scores on all held-out digits and some of the completed digits."""
    held_out = mnist_test_2k()
    digits = held_out.samples / 255
    scores: dict[str, dict[str, float]] = {}
    pictures: dict[str, Tensor] = {}
    for way in WAYS:
        began = time.process_time()
        model = train(settings, mnist_5k().samples / 255, has_term=way != WAYS[0])
        seconds = time.process_time() - began
        with torch.no_grad():
            made = torch.cat([model(upper_half(part)) for part in digits.split(500)]).clamp(0, 1)
        scores[way] = {**scores_of(made, digits, held_out.labels), "seconds": seconds}
        pictures[way] = spread(made, SHOWN)
    return scores, pictures


def compare(all_settings: Sequence[Settings], out: Path) -> None:
    """Train everything that is not there yet, print the table, and draw the picture of the first seed."""
    results = [once(out / str(settings.seed), settings, partial(result_of, settings)) for settings in all_settings]
    held_out = mnist_test_2k()
    digits = held_out.samples / 255
    rows = {
        "originals": [scores_of(digits, digits, held_out.labels)],
        "upper halves": [scores_of(upper_half(digits), digits, held_out.labels)],
        **{way: [scores[way] for scores, _ in results] for way in WAYS},
    }
    print(table(COLUMNS, rows))
    shown = spread(digits, SHOWN)
    draw_rows({"input": upper_half(shown), **results[0][1], "original": shown}, out / "picture-to-picture.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    compare([Settings(seed) for seed in range(options.seeds)], options.out)
