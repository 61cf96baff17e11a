"""Enlarge photographs four times, with a pixel loss alone and with an adversarial term.

    pip install scikit-image matplotlib
    OMP_NUM_THREADS=1 python -m tools.super_resolution --out runs/super_resolution

A small network makes pictures of 64 x 64 pixels from the means of 4 x 4 pixels. It learns from tiles of four
photographs that come with scikit-image, and is measured on other tiles of them. It learns with the pixel loss first.
From there on it is trained in two ways, with the same batches: with the pixel loss alone, and with a `unet` that judges
each pixel by a relativistic average, and feature matching. Each way is trained on three seeds. The program prints a
table in Markdown and draws `super-resolution.png` beside the results. A training that is already finished in `--out` is
not repeated.
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gankit import Adversary, Spec
from gankit.metrics import extract_features, frechet_distance
from tools.compare_autoencoders import RandomFilters, batches_of, photographs, pixel_error, sharpness, spread
from tools.ways import Result, draw_rows, once, table

FACTOR = 4
"""How many times a picture is enlarged in either direction."""
WAYS = ("pixel loss alone", "with `unet`")
"""The ways in which a model is trained."""
COLUMNS = {
    "error": "pixel error ↓",
    "sharpness": "sharpness → 1",
    "distance": "Fréchet ↓",
    "seconds": "seconds of a core",
}
"""The columns of the table."""
MEASURED = 300
"""The number of held-out pictures that are enlarged."""
SHOWN = 8
"""The number of them in the picture."""


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Args:
        seed: The seed of the initial weights and the order of the pictures.
        discriminator_start: The first step of D's training.
        start: The first step of the adversarial term.
        steps: The number of steps.
        batch: The number of pictures of a batch.
        side: The side of the squares of the photographs in a batch.
        width: The number of channels of the model.
        blocks: The number of its residual blocks.
        discriminator_width: The number of channels after the first convolution of D.
        rate: The learning rate of both.
        weight: The weight of the adversarial loss beside the pixel loss.
        matching: The weight of feature matching.
    """

    seed: int
    discriminator_start: int = 1150
    start: int = 1200
    steps: int = 1600
    batch: int = 16
    side: int = 32
    width: int = 32
    blocks: int = 4
    discriminator_width: int = 8
    rate: float = 1e-3
    weight: float = 0.1
    matching: float = 0.1


class Enlarger(nn.Module):
    """A small residual network that enlarges pictures four times (Ledig et al. 2017, SRGAN, without BatchNorm).

    Formula: the bilinear enlargement plus a correction: a convolution, residual blocks at the small size, and two
    times a convolution whose channels become 2 x 2 pixels.

    Args:
        width: The number of channels.
        blocks: The number of residual blocks.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(blocks)
        )
        enlarge = [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(0.2)]
        enlarge_again = [nn.Conv2d(width, 2 * width, 3, padding=1), nn.PixelShuffle(2), nn.LeakyReLU(0.2)]
        self.enlarge = nn.Sequential(*enlarge, *enlarge_again, nn.Conv2d(width // 2, 3, 3, padding=1))

    def forward(self, small: Tensor) -> Tensor:
        """Return pictures `(N, 3, 4 H, 4 W)` for pictures `(N, 3, H, W)`."""
        x = self.first(small)
        for block in self.blocks:
            x = x + block(x)
        return F.interpolate(small, scale_factor=FACTOR, mode="bilinear") + self.enlarge(x)


def reduced(pictures: Tensor) -> Tensor:
    """Return the means of 4 x 4 pixels."""
    return F.avg_pool2d(pictures, FACTOR)


def adversary_of(settings: Settings) -> Adversary:
    """Return the adversary: a narrow `unet`, a relativistic average, and feature matching."""
    return Adversary(
        Spec("unet", sample_shape=(3, settings.side, settings.side), hidden_dim=settings.discriminator_width),
        loss="relativistic_average",
        regularizers=[Spec("layer_matching", weight=settings.matching)],
        weight=settings.weight,
        generator_start=settings.start,
        discriminator_start=settings.discriminator_start,
    )


class Training:
    """A model in training.

    Args:
        settings: How it is trained.
    """

    def __init__(self, settings: Settings) -> None:
        self.model = Enlarger(settings.width, settings.blocks)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.rate)

    def advance(self, batches: Iterable[Tensor], steps: range, adversary: Adversary | None, rate: float) -> None:
        """Make steps: the plain loop of the page, with an adversarial term or without.

        Args:
            batches: A batch for each step.
            steps: The numbers of the steps.
            adversary: The adversary, or None for the pixel loss alone.
            rate: The learning rate of D.
        """
        if adversary is not None:
            optimizer_D = torch.optim.Adam(adversary.parameters(), lr=rate, betas=(0.5, 0.99))
        for step, x in zip(steps, batches, strict=False):
            y = self.model(reduced(x))
            loss = F.l1_loss(y, x)
            if adversary is not None:
                loss = loss + adversary.generator_loss(fake=y, real=x, step=step)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if adversary is not None and adversary.is_due("discriminator", step):
                optimizer_D.zero_grad()
                adversary.discriminator_loss(real=x, fake=y, step=step).backward()
                optimizer_D.step()

    @torch.no_grad()
    def made(self, x: Tensor) -> Tensor:
        """Return what the model makes of reduced pictures, in [0, 1]."""
        return torch.cat([self.model(reduced(part)) for part in x.split(50)]).clamp(0, 1)


@functools.cache
def samples() -> tuple[Tensor, Tensor]:
    """Return pictures to learn from, and some that are held out, each `(N, 3, 64, 64)` in [0, 1]."""
    try:
        learned, held_out = photographs(64)
    except ModuleNotFoundError as error:
        sys.exit(f"the photographs come with scikit-image: pip install scikit-image ({error})")
    return learned, spread(held_out, MEASURED)


def cut(pictures: Tensor, side: int, random: torch.Generator) -> Tensor:
    """Return the same random square of all pictures of a batch."""
    top, left = (int(torch.randint(size - side + 1, (), generator=random)) for size in pictures.shape[-2:])
    return pictures[..., top : top + side, left : left + side]


def scores_of(made: Tensor, originals: Tensor) -> dict[str, float]:
    """Return pixel error, sharpness and Fréchet distance in random features of textures, of pictures to originals."""
    extractor = RandomFilters(3)
    distance = frechet_distance(extract_features(extractor, made), extract_features(extractor, originals))
    return {"error": pixel_error(made, originals), "sharpness": sharpness(made, originals), "distance": distance}


def result_of(settings: Settings, learned: Tensor, held_out: Tensor) -> Result:
    """Train in both ways, and return the scores on the held-out pictures and some of the enlarged pictures."""
    torch.manual_seed(settings.seed)
    random = torch.Generator().manual_seed(settings.seed)
    batches = (cut(batch, settings.side, random) for batch in batches_of(learned, settings.batch, settings.seed))
    began = time.process_time()
    common = Training(settings)
    common.advance(batches, range(settings.discriminator_start), None, settings.rate)
    rest = range(settings.discriminator_start, settings.steps)
    last = [next(batches) for _ in rest]
    seconds = time.process_time() - began
    scores: dict[str, dict[str, float]] = {}
    pictures: dict[str, Tensor] = {}
    for way in WAYS:
        began = time.process_time()
        training = copy.deepcopy(common)
        training.advance(last, rest, None if way == WAYS[0] else adversary_of(settings), settings.rate)
        spent = seconds + time.process_time() - began
        made = training.made(held_out)
        scores[way] = {**scores_of(made, held_out), "seconds": spent}
        pictures[way] = spread(made, SHOWN)
    return scores, pictures


def compare(all_settings: Sequence[Settings], out: Path) -> None:
    """Train everything that is not there yet, print the table, and draw the picture of the first seed."""
    learned, held_out = samples()
    results = [
        once(out / str(settings.seed), settings, partial(result_of, settings, learned, held_out))
        for settings in all_settings
    ]
    bicubic = F.interpolate(reduced(held_out), scale_factor=FACTOR, mode="bicubic").clamp(0, 1)
    rows = {
        "originals": [scores_of(held_out, held_out)],
        "bicubic": [scores_of(bicubic, held_out)],
        **{way: [scores[way] for scores, _ in results] for way in WAYS},
    }
    print(table(COLUMNS, rows))
    shown = spread(held_out, SHOWN)
    small = F.interpolate(reduced(shown), scale_factor=FACTOR)
    drawn = {"input": small, "bicubic": spread(bicubic, SHOWN), **results[0][1], "original": shown}
    draw_rows(drawn, out / "super-resolution.png", inches=1.1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    compare([Settings(seed) for seed in range(options.seeds)], options.out)
