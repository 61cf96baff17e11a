"""Train small autoencoders with and without an adversarial term, which starts late, and compare what they make.

    pip install scikit-image matplotlib
    OMP_NUM_THREADS=1 python -m tools.compare_autoencoders --out runs/autoencoders

One autoencoder learns the digits that come with gankit, the other one windows of four colour photographs that come with
scikit-image. Each is trained on three seeds in four ways: without the term, with a discriminator D that was trained
before the term starts (the default of `Adversary`), with that D and a ramp, and with a D that was never trained. Until
the term starts, all four are the same training, so that this part is computed once.

It prints tables in Markdown, and writes pictures beside the results. A training that is already finished in `--out` is
not repeated.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gankit import Adversary, Spec, balanced_weight
from gankit.data.digits import mnist_5k, mnist_test_2k
from gankit.errors import GankitWarning
from gankit.files import write_text
from gankit.metrics import extract_features, frechet_distance
from gankit.metrics.mnist.classifier import mnist_classifier

WAYS = ("alone", "head start", "head start, ramp", "untrained D")
"""The ways in which an autoencoder is trained."""
COLOURS = ("tab:gray", "tab:blue", "tab:green", "tab:red")
"""The colour of each way in the pictures."""
NEAR = 50
"""The number of steps before the start of the term over which errors are averaged."""
AFTER = (50, 200)
"""The numbers of steps from the start on over which errors are averaged."""
WATCHED = 128
"""The number of held-out samples whose error is measured during a training."""
SHOWN = 12
"""The number of held-out samples in a picture."""


@dataclass(frozen=True)
class Settings:
    """How an autoencoder is trained.

    Args:
        data: `digits` or `photographs`.
        steps: The number of steps.
        start: The first step of the adversarial term.
        ramp: The number of steps in which the term grows, in the way with a ramp.
        batch: The number of samples of a batch.
        widths: The channels of the convolutions, each of which halves height and width.
        latent: The number of numbers between encoder and decoder, of the whole picture or of each position.
        by_position: Whether each position has numbers of its own.
        rate: The learning rate of the autoencoder.
        discriminator_rate: The learning rate of D.
        discriminator_depth: The depth of D.
        weight: The weight of the term, beside `balanced_weight`.
    """

    data: str
    steps: int = 1500
    start: int = 1000
    ramp: int = 200
    batch: int = 32
    widths: tuple[int, ...] = (16, 32)
    latent: int = 8
    by_position: bool = False
    rate: float = 2e-3
    discriminator_rate: float = 1e-3
    discriminator_depth: int = 2
    weight: float = 0.5


SETTINGS = {
    "digits": Settings("digits"),
    "photographs": Settings("photographs", widths=(24, 48), latent=4, by_position=True, rate=1e-3, weight=0.3),
}
"""The settings of both data sets."""


# --- data ----------------------------------------------------------------------------------------------------


@functools.cache
def samples_of(data: str) -> tuple[Tensor, Tensor]:
    """Return the samples to learn from, and others that are held out, each `(N, C, H, W)` in [0, 1]."""
    if data == "digits":
        return mnist_5k().samples / 255, mnist_test_2k().samples / 255
    return photographs()


def photographs(side: int = 32, least_detail: float = 0.1) -> tuple[Tensor, Tensor]:
    """Return windows of colour photographs to learn from, and others that are held out, `(N, 3, side, side)`.

    The photographs of an astronaut, a cat, a cup of coffee and a rocket are in the public domain. Each is cut into
    tiles of twice the side, and every fourth tile of a row, shifted from row to row, is held out, so that no pixel is
    in both sets. Windows are taken from inside the tiles, every 4 pixels in either direction. Flat ones are left out:
    those in which the Laplacian of `detail` has a root mean square below `least_detail`.
    """
    from skimage import data

    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    for photograph in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket()):
        pixels = torch.tensor(photograph).permute(2, 0, 1).float() / 255
        rows, columns = (size // (2 * side) for size in pixels.shape[1:])
        for row in range(rows):
            for column in range(columns):
                tile = pixels[:, 2 * side * row :, 2 * side * column :][:, : 2 * side, : 2 * side]
                windows = windows_of(tile, side, 4)
                kept[(row + column) % 4 == 0].append(
                    windows[detail(windows).square().mean((1, 2, 3)).sqrt() >= least_detail]
                )
    return torch.cat(kept[0]), torch.cat(kept[1])


def windows_of(picture: Tensor, side: int, stride: int) -> Tensor:
    """Return the square windows of a picture `(C, H, W)`, row by row, `(N, C, side, side)`."""
    cut = picture.unfold(1, side, stride).unfold(2, side, stride)
    return cut.permute(1, 2, 0, 3, 4).reshape(-1, len(picture), side, side)


# --- what is measured ----------------------------------------------------------------------------------------


def detail(pictures: Tensor) -> Tensor:
    """Return the discrete Laplacian of pictures at their inner pixels, `(N, C, H - 2, W - 2)`.

    Formula: the sum of the four neighbours minus four times the pixel.
    """
    inner = pictures[..., 1:-1, 1:-1]
    rows = pictures[..., :-2, 1:-1] + pictures[..., 2:, 1:-1]
    columns = pictures[..., 1:-1, :-2] + pictures[..., 1:-1, 2:]
    return rows + columns - 4 * inner


def sharpness(made: Tensor, originals: Tensor) -> float:
    """Return how much fine detail pictures have, relative to their originals.

    Formula: the root mean square of the Laplacian of all pictures, divided by that of the originals. It is 1 for the
    originals, below 1 for blurred pictures, and above 1 for noisy ones.
    """
    return math.sqrt(detail(made).square().mean() / detail(originals).square().mean())


def pixel_error(made: Tensor, originals: Tensor) -> float:
    """Return the root mean square of the differences of the pixels, in units of the distance from black to white."""
    return math.sqrt(F.mse_loss(made, originals))


class RandomFilters(nn.Module):
    """Features of textures without training: the mean responses of random filters (Ustyuzhaninov et al. 2016).

    From pictures `(N, C, H, W)` to `(N, 4 * filters)`: the means over all positions of `relu(w * x)`, for filters w of
    3, 5, 7 and 11 pixels a side. The filters are drawn from N(0, 1) by a fixed seed, their mean is subtracted for each
    channel, so that they do not see brightness, and they are divided by their norm.
    """

    def __init__(self, channels: int, filters: int = 16) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.filters = nn.ParameterList()
        for side in (3, 5, 7, 11):
            drawn = torch.randn(filters, channels, side, side, generator=random)
            drawn -= drawn.mean((2, 3), keepdim=True)
            self.filters.append(nn.Parameter(F.normalize(drawn.flatten(1)).view_as(drawn), requires_grad=False))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the features of pictures."""
        return torch.cat([F.conv2d(pictures, one).relu().mean((2, 3)) for one in self.filters], dim=1)


def scores_of(data: str, made: Tensor, originals: Tensor) -> dict[str, float]:
    """Return pixel error, sharpness and Fréchet distance of pictures to their originals.

    The features are those of gankit's classifier for digits, and those of `RandomFilters` for photographs.
    """
    extractor = mnist_classifier("cpu").features if data == "digits" else RandomFilters(originals.shape[1])
    distance = frechet_distance(extract_features(extractor, made), extract_features(extractor, originals))
    return {"error": pixel_error(made, originals), "sharpness": sharpness(made, originals), "distance": distance}


# --- training ------------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """An autoencoder of pictures, which halves height and width with each convolution and doubles them with the others.

    Args:
        sample_shape: `(C, H, W)`; height and width are divisible by 2 to the power of the number of widths.
        widths: The channels of the convolutions.
        latent: The number of numbers in the middle, of the whole picture or of each position.
        by_position: Whether each position in the middle has numbers of its own.
    """

    def __init__(
        self, sample_shape: tuple[int, int, int], widths: tuple[int, ...], latent: int, by_position: bool
    ) -> None:
        super().__init__()
        channels, height, width = sample_shape
        middle = (widths[-1], height // 2 ** len(widths), width // 2 ** len(widths))
        down: list[nn.Module] = []
        for before, after in pairwise((channels, *widths)):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        up: list[nn.Module] = []
        for before, after in pairwise(widths[::-1]):
            up += [nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
        if by_position:
            inward, outward = [nn.Conv2d(widths[-1], latent, 1)], [nn.Conv2d(latent, widths[-1], 3, padding=1)]
        else:
            inward = [nn.Flatten(), nn.Linear(math.prod(middle), latent)]
            outward = [nn.Linear(latent, math.prod(middle)), nn.Unflatten(1, middle)]
        self.encoder = nn.Sequential(*down, *inward)
        self.decoder = nn.Sequential(*outward, *up, nn.ReLU(), nn.Upsample(scale_factor=2))
        self.last = nn.Conv2d(widths[0], channels, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the reconstruction of pictures `(N, C, H, W)`."""
        return self.last(self.decoder(self.encoder(pictures)))


class Training:
    """An autoencoder in training, with an adversary or without.

    Args:
        settings: How it is trained.
        sample_shape: `(C, H, W)`.
        way: One of `WAYS`.
        seed: The seed of the initial weights.
    """

    def __init__(self, settings: Settings, sample_shape: tuple[int, int, int], way: str, seed: int) -> None:
        self.settings, self.sample_shape, self.seed = settings, sample_shape, seed
        torch.manual_seed(seed)
        self.model = Autoencoder(sample_shape, settings.widths, settings.latent, settings.by_position)
        self.adversary = adversary_of(settings, sample_shape, way)
        self.has_term = way != "alone"
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.rate)
        rate = settings.discriminator_rate
        self.optimizer_D = torch.optim.Adam(self.adversary.parameters(), lr=rate, betas=(0.5, 0.9))

    def continued(self, way: str) -> Training:
        """Return a copy that goes on in another way. D is copied unless it should be one that was never trained."""
        other = Training(self.settings, self.sample_shape, way, self.seed)
        other.model.load_state_dict(self.model.state_dict())
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        if way != "untrained D":
            other.adversary.load_state_dict(self.adversary.state_dict())
            other.optimizer_D.load_state_dict(copy.deepcopy(self.optimizer_D.state_dict()))
        return other

    def step(self, x: Tensor, step: int) -> None:
        """Make a step: the plain loop of the documentation."""
        y = self.model(x)
        loss = F.mse_loss(y, x)
        if self.has_term and self.adversary.is_due("generator", step):
            term = self.adversary.generator_loss(fake=y, real=x, step=step)
            # a factor inside of the term, such as the ramp, would be undone by the balanced weight
            whole = term / self.adversary.starts.share(step)
            loss = loss + self.settings.weight * balanced_weight(loss, whole, at=self.model.last.weight) * term
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.has_term and self.adversary.is_due("discriminator", step):
            self.optimizer_D.zero_grad()
            self.adversary.discriminator_loss(real=x, fake=y, step=step).backward()
            self.optimizer_D.step()

    @torch.no_grad()
    def made(self, x: Tensor) -> Tensor:
        """Return the reconstructions of pictures, in [0, 1]."""
        return torch.cat([self.model(part) for part in torch.split(x, 500)]).clamp(0, 1)


def adversary_of(settings: Settings, sample_shape: tuple[int, int, int], way: str) -> Adversary:
    """Return the adversary of a way: a small PatchGAN with the hinge loss and lazy R1."""
    start, depth = settings.start, settings.discriminator_depth
    D = Spec("patch", sample_shape=sample_shape, hidden_dim=16, depth=depth, normalization="none")
    with warnings.catch_warnings():
        # a D that was never trained is warned about, and is what this program shows
        warnings.simplefilter("ignore", GankitWarning)
        return Adversary(
            D,
            loss="hinge",
            regularizers=[Spec("r1", weight=1.0, every=4)],
            generator_start=start,
            discriminator_start=start if way == "untrained D" else None,
            generator_ramp_steps=settings.ramp if way == "head start, ramp" else 0,
        )


def batches_of(samples: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Return endless random batches of samples."""
    random = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(samples), generator=random)
        for rows in order[: len(order) // size * size].split(size):
            yield samples[rows]


# --- one seed ------------------------------------------------------------------------------------------------


def train(settings: Settings, samples: tuple[Tensor, Tensor], seed: int, folder: Path) -> None:
    """Train in all ways with one seed, and write `result.json` and `made.safetensors`, unless they are there.

    The result has, for each way, the scores of the reconstructions of all held-out samples, and the pixel error of some
    of them after a step: after each step near the start of the term, and after every tenth one elsewhere.
    """
    result = folder / "result.json"
    if result.exists():
        if json.loads(result.read_text(encoding="utf-8"))["settings"] != json.loads(json.dumps(asdict(settings))):
            sys.exit(f"{result} is of a training with other settings; give another --out, or remove it")
        return
    began = time.perf_counter()
    learned, held_out = samples
    batches = batches_of(learned, settings.batch, seed)
    sample_shape = (held_out.shape[1], held_out.shape[2], held_out.shape[3])
    common = Training(settings, sample_shape, "head start", seed)
    before = advance(common, batches, range(settings.start), held_out)
    rest = [next(batches) for _ in range(settings.start, settings.steps)]
    ways: dict[str, Any] = {}
    pictures: dict[str, Tensor] = {}
    for way in WAYS:
        training = common.continued(way)
        after = advance(training, iter(rest), range(settings.start, settings.steps), held_out)
        made = training.made(held_out)
        ways[way] = {"scores": scores_of(settings.data, made, held_out), "errors": [*before, *after]}
        pictures[way] = spread(made, SHOWN).contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(pictures, folder / "made.safetensors")
    seconds = time.perf_counter() - began
    write_text(result, json.dumps({"settings": asdict(settings), "seconds": seconds, "ways": ways}), "the results")


def advance(training: Training, batches: Iterator[Tensor], steps: range, held_out: Tensor) -> list[tuple[int, float]]:
    """Make steps, and return some of them with the pixel error of the same held-out samples after them."""
    watched = spread(held_out, WATCHED)
    start = training.settings.start
    errors: list[tuple[int, float]] = []
    for step, batch in zip(steps, batches, strict=False):
        training.step(batch, step)
        if -NEAR <= step - start < AFTER[-1] or step % 10 == 0:
            errors.append((step, pixel_error(training.made(watched), watched)))
    return errors


def spread(samples: Tensor, count: int) -> Tensor:
    """Return so many samples from all over a set, in its order."""
    return samples[torch.linspace(0, len(samples) - 1, count).long()]


def change_of(errors: list[tuple[int, float]], start: int, steps: int) -> float:
    """Return the mean error of so many steps from the start on, minus that of the `NEAR` steps before it."""
    after = [error for step, error in errors if start <= step < start + steps]
    before = [error for step, error in errors if start - NEAR <= step < start]
    return statistics.mean(after) - statistics.mean(before)


# --- tables and pictures -------------------------------------------------------------------------------------


def table(settings: Settings, held_out: Tensor, results: Sequence[Mapping[str, Any]]) -> str:
    """Return a table in Markdown: the scores of each way, and how the error changes at the start."""
    columns = ("pixel error ↓", "sharpness → 1", "Fréchet ↓", *(f"change in {steps} steps" for steps in AFTER))
    lines = [row("", *columns), row(*["---"] * (len(columns) + 1)), row("originals", "0", "1", "0", "", "")]
    blurred = F.avg_pool2d(held_out, 3, stride=1, padding=1, count_include_pad=False)
    lines.append(row("originals, blurred", *map(number, scores_of(settings.data, blurred, held_out).values()), "", ""))
    for way in WAYS:
        of_way = [result["ways"][way] for result in results]
        scores = ([one["scores"][name] for one in of_way] for name in ("error", "sharpness", "distance"))
        changes = ([change_of(one["errors"], settings.start, steps) for one in of_way] for steps in AFTER)
        signed = (mean_and_spread(values, sign=True) for values in changes)
        lines.append(row(way, *map(mean_and_spread, scores), *signed))
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a number with three digits."""
    return f"{value:.3g}"


def mean_and_spread(values: Sequence[float], *, sign: bool = False) -> str:
    """Return a mean with its standard deviation over the seeds, which has two digits."""
    mean, deviation = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    places = max(0, 1 - math.floor(math.log10(deviation))) if deviation else 4
    return f"{mean:{'+' if sign else ''}.{places}f} ± {deviation:.{places}f}"


def row(*cells: str) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def draw_pictures(originals: Tensor, made: Mapping[str, Tensor], path: Path) -> None:
    """Draw originals and what each way makes of them, one row each."""
    from matplotlib.figure import Figure

    rows = {"originals": originals, **{way: made[way] for way in WAYS}}
    count = len(originals)
    figure = Figure(figsize=(1.5 + 0.72 * count, 0.8 * len(rows)), layout="constrained")
    for ax, (name, pictures) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        strip = F.pad(pictures, (1, 1, 1, 1), value=1.0).permute(2, 0, 3, 1).flatten(1, 2)
        ax.imshow(strip.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_axis_off()
        ax.text(-4, strip.shape[0] / 2, name, ha="right", va="center", fontsize=11)
    figure.savefig(path, dpi=100, bbox_inches="tight")  # the names stand outside of the axes


def draw_start(found: Mapping[str, tuple[Settings, Sequence[Mapping[str, Any]]]], path: Path) -> None:
    """Draw the error of held-out samples around the start of the term: each seed thin, and the mean thick."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(found), 3.6), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for ax, (data, (settings, results)) in zip(axes, found.items(), strict=True):
        for colour, way in zip(COLOURS, WAYS, strict=True):
            curves: list[list[float]] = []
            steps: list[int] = []
            for result in results:
                near = [pair for pair in result["ways"][way]["errors"] if -NEAR <= pair[0] - settings.start < AFTER[-1]]
                steps = [step - settings.start for step, _ in near]
                curves.append([error for _, error in near])
                ax.plot(steps, curves[-1], color=colour, linewidth=0.5, alpha=0.5)
            means = [statistics.mean(errors) for errors in zip(*curves, strict=True)]
            ax.plot(steps, means, color=colour, linewidth=2, label=way)
        ax.axvline(0, color="black", linewidth=0.8, linestyle=":")
        ax.set(title=data, xlabel="steps since the start of the term", ylabel="pixel error of held-out samples")
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    figure.savefig(path, dpi=100)


def compare(all_settings: Sequence[Settings], seeds: int, out: Path) -> None:
    """Train everything that is not there yet, print the tables, and draw the pictures."""
    found: dict[str, tuple[Settings, Sequence[Mapping[str, Any]]]] = {}
    for settings in all_settings:
        samples = samples_of(settings.data)
        folders = [out / f"{settings.data}_{seed}" for seed in range(seeds)]
        for seed, folder in enumerate(folders):
            train(settings, samples, seed, folder)
        results = [json.loads((folder / "result.json").read_text(encoding="utf-8")) for folder in folders]
        found[settings.data] = (settings, results)
        seconds = [f"{result['seconds']:.0f}" for result in results]
        print(f"{settings.data}: {len(samples[0])} to learn from, {len(samples[1])} held out, {', '.join(seconds)} s\n")
        print(table(settings, samples[1], results), end="\n\n")
        made = load_file(folders[0] / "made.safetensors")
        draw_pictures(spread(samples[1], SHOWN), made, out / f"{settings.data}.png")
    draw_start(found, out / "start.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", choices=[*SETTINGS], action="append", help="may be repeated; both by default")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    compare([SETTINGS[data] for data in options.data or SETTINGS], options.seeds, options.out)
