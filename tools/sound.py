"""Train a small autoencoder of sound, with a loss of the waveform alone and with an adversarial term.

    apt-get install espeak-ng
    pip install matplotlib
    OMP_NUM_THREADS=1 python -m tools.sound --out runs/sound

The sounds are tones, which this program makes itself, and sentences that espeak-ng speaks; without espeak-ng there are
tones alone. The autoencoder learns with a loss of the waveform first. From there on it is trained in two ways, with the
same batches: with that loss alone, and with two discriminators, least squares and feature matching. It is measured on
other sentences and other tones. Each way is trained on three seeds. The program prints a table in Markdown, and writes
spectrograms, `sound.png`, and a sentence and tones as WAV files beside the results. A training that is already finished
in `--out` is not repeated.
"""

from __future__ import annotations

import argparse
import copy
import functools
import io
import math
import shutil
import subprocess
import time
import wave
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gankit import Adversary, Spec
from tools.ways import Result, once, table

RATE = 16_000
"""The number of samples per second."""
SEGMENT = 4096
"""The number of samples of a segment in a batch."""
WAYS = ("waveform alone", "with two discriminators")
"""The ways in which an autoencoder is trained."""
COLUMNS = {
    "error": "error ↓",
    "spectral": "log-spectral distance, dB ↓",
    "high": "energy above 2 kHz, dB → 0",
    "seconds": "seconds of a core",
}
"""The columns of the table."""

VOICES = ("en-us+m3", "en-us+f2", "en-gb+m1", "en-gb+f4")
"""The voices of espeak-ng."""
SENTENCES = (
    "The discriminator listens to every second value, and to every third.",
    "A quiet room has more sounds than most people notice.",
    "She sells fresh fish and shellfish at six each Saturday.",
    "Please switch off the lights before you leave the house.",
    "Four large boats waited in the harbour for better weather.",
    "Children chase the chickens through the cold, wet grass.",
    "We measure the distance between two spectra in decibels.",
    "Jack bought a yellow jacket and a pair of thick blue gloves.",
)
"""What they say in the sounds to learn from."""
HELD_OUT = ("This short sentence was not part of the training.", "Seven thick books fell off the old kitchen shelf.")
"""What they say in the sounds that are held out."""


@dataclass(frozen=True)
class Settings:
    """How an autoencoder is trained.

    Args:
        seed: The seed of the initial weights and the choice of the segments.
        speech: Whether there are sentences beside the tones.
        discriminator_start: The first step of the training of the discriminators.
        start: The first step of the adversarial term.
        steps: The number of steps.
        batch: The number of segments of a batch.
        width: The number of channels after the first convolution of the autoencoder.
        latent: The number of numbers in the middle, for every 64 samples.
        rate: The learning rate of the autoencoder.
        discriminator_rate: That of the discriminators.
        weight: The weight of each adversarial loss beside that of the waveform.
        matching: The weight of feature matching.
    """

    seed: int
    speech: bool = True
    discriminator_start: int = 2450
    start: int = 2500
    steps: int = 2700
    batch: int = 4
    width: int = 24
    latent: int = 16
    rate: float = 2e-3
    discriminator_rate: float = 1e-3
    weight: float = 0.03
    matching: float = 0.06


# --- sounds --------------------------------------------------------------------------------------------------


def tones(count: int, seed: int, length: int = RATE) -> Tensor:
    """Return tones, `(count, length)`: harmonics that fade, and a little noise that fades faster.

    Formula: `sum over k of a_k exp(-3 t) sin(2 pi k f t + p_k)` for all `k f` below 7 kHz, with random phases p_k, a
    random pitch f from 80 to 640 Hz, and amplitudes `a_k = 1 / k`, plus noise times `0.3 exp(-30 t)`, such as a string
    has when it is plucked; divided by twice its largest absolute value.
    """
    random = torch.Generator().manual_seed(seed)
    t = torch.arange(length) / RATE
    made: list[Tensor] = []
    for _ in range(count):
        pitch = 80 * 8 ** torch.rand((), generator=random).item()
        sound = 0.3 * torch.randn(length, generator=random) * torch.exp(-30 * t)
        for k in range(1, int(7000 / pitch) + 1):
            phase = 2 * math.pi * torch.rand((), generator=random).item()
            sound = sound + torch.exp(-3 * t) * torch.sin(2 * math.pi * k * pitch * t + phase) / k
        made.append(sound / (2 * sound.abs().max()))
    return torch.stack(made)


def spoken(sentence: str, voice: str) -> Tensor:
    """Return a sentence that espeak-ng speaks, `(T,)`, with a largest absolute value of 0.5."""
    command = ["espeak-ng", "--stdout", "-v", voice, sentence]
    samples, rate = read_wave(subprocess.run(command, check=True, capture_output=True).stdout)
    sound = resampled(samples, rate, RATE)
    return sound / (2 * sound.abs().max())


def read_wave(data: bytes) -> tuple[Tensor, int]:
    """Return the samples of a mono WAV file of 16 bits, `(T,)` in [-1, 1), and their rate."""
    with wave.open(io.BytesIO(data)) as file:
        rate = file.getframerate()
        # a program that writes to a pipe does not know the length when it writes the header
        frames = file.readframes(len(data))
    return torch.frombuffer(bytearray(frames), dtype=torch.int16).float() / 2**15, rate


def write_wave(path: Path, sound: Tensor) -> None:
    """Write a sound `(T,)` in [-1, 1] as a mono WAV file of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound.clamp(-1, 1) * (2**15 - 1)).round().to(torch.int16).numpy().tobytes())


def resampled(sound: Tensor, rate: int, new_rate: int) -> Tensor:
    """Return a sound `(T,)` at another rate: the frequencies above half of the lower rate are left out."""
    length = round(len(sound) * new_rate / rate)
    spectrum = torch.fft.rfft(sound.double())[: length // 2 + 1]
    return (torch.fft.irfft(spectrum, length) * length / len(sound)).float()


@functools.cache
def sounds(speech: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the sound to learn from, `(T,)`, and those that are held out, each `(T,)`.

    Args:
        speech: Whether there is speech, which needs espeak-ng.
    """
    learned, held_out = [tones(24, 0).flatten()], {"tones": tones(4, 1, RATE // 2).flatten()}
    if speech:
        learned += [spoken(sentence, voice) for sentence in SENTENCES for voice in VOICES]
        held_out["speech"] = torch.cat([spoken(HELD_OUT[i % 2], voice) for i, voice in enumerate(VOICES)])
    return torch.cat(learned), held_out


def segments_of(sound: Tensor, batch: int, seed: int) -> Iterator[Tensor]:
    """Return endless batches of random segments, `(batch, 1, SEGMENT)`."""
    random = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(sound) - SEGMENT + 1, (batch,), generator=random)
        yield torch.stack([sound[start : start + SEGMENT] for start in starts.tolist()]).unsqueeze(1)


# --- what is measured ----------------------------------------------------------------------------------------


def power(sound: Tensor) -> Tensor:
    """Return the power spectrogram of a sound `(T,)`, `(frequencies, frames)`: Hann windows of 512, a hop of 128."""
    window = torch.hann_window(512)
    return torch.stft(sound, 512, 128, window=window, return_complex=True).abs().square() / window.square().sum()


def spectral_distance(made: Tensor, original: Tensor) -> float:
    """Return the log-spectral distance of a sound to its original, in decibels.

    Formula: the mean over the frames of `sqrt(mean over the frequencies of (10 log10((P + e) / (Q + e)))^2)`, for the
    power spectrograms P and Q and `e = 1e-6`, below which nothing is heard here.
    """
    ratio = 10 * torch.log10((power(made) + 1e-6) / (power(original) + 1e-6))
    return ratio.square().mean(0).sqrt().mean().item()


def high_energy(made: Tensor, original: Tensor, least: float = 2000) -> float:
    """Return the energy of a sound above a frequency in Hz relative to that of its original, in decibels."""
    first = math.ceil(least / RATE * 512)
    return 10 * math.log10(power(made)[first:].sum() / power(original)[first:].sum())


def relative_error(made: Tensor, original: Tensor) -> float:
    """Return the root mean square of the difference of two sounds, divided by that of the original."""
    return ((made - original).square().mean() / original.square().mean()).sqrt().item()


def scores_of(made: Tensor, original: Tensor) -> dict[str, float]:
    """Return the scores of a sound."""
    return {
        "error": relative_error(made, original),
        "spectral": spectral_distance(made, original),
        "high": high_energy(made, original),
    }


# --- training ------------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """A convolutional autoencoder of sound, which has `latent` numbers for every 64 samples.

    Args:
        width: The number of channels after the first convolution.
        latent: The number of numbers.
    """

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(1, width, 8, stride=4, padding=2),
            nn.LeakyReLU(0.1),
            nn.Conv1d(width, 2 * width, 8, stride=4, padding=2),
            nn.LeakyReLU(0.1),
            nn.Conv1d(2 * width, 4 * width, 8, stride=4, padding=2),
            nn.LeakyReLU(0.1),
            nn.Conv1d(4 * width, latent, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(latent, 4 * width, 7, padding=3),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose1d(4 * width, 2 * width, 8, stride=4, padding=2),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose1d(2 * width, width, 8, stride=4, padding=2),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose1d(width, width, 8, stride=4, padding=2),
            nn.LeakyReLU(0.1),
            nn.Conv1d(width, 1, 7, padding=3),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction of sounds `(N, 1, T)`, where T is a multiple of 64."""
        return self.decoder(self.encoder(x))


def adversaries_of(settings: Settings) -> nn.ModuleDict:
    """Return the adversaries: both discriminators with least squares and feature matching."""
    names = {
        "periods": Spec("multi_period", sample_shape=(1, SEGMENT), hidden_dim=4),
        "spectra": Spec("multi_resolution_stft", sample_shape=(1, SEGMENT), hidden_dim=8),
    }
    return nn.ModuleDict(
        {
            name: Adversary(
                D,
                loss="least_squares",
                regularizers=[Spec("layer_matching", weight=settings.matching)],
                weight=settings.weight,
                generator_start=settings.start,
                discriminator_start=settings.discriminator_start,
                name=name,
            )
            for name, D in names.items()
        }
    )


class Training:
    """An autoencoder in training.

    Args:
        settings: How it is trained.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.model = Autoencoder(settings.width, settings.latent)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.rate)

    def advance(self, batches: Iterable[Tensor], steps: range, adversaries: nn.ModuleDict | None) -> None:
        """Make steps: the plain loop of the page, with adversarial terms or without."""
        both: list[Adversary] = [] if adversaries is None else list(adversaries.children())
        if adversaries is not None:
            optimizer_D = torch.optim.Adam(
                adversaries.parameters(), lr=self.settings.discriminator_rate, betas=(0.8, 0.99)
            )
        for step, x in zip(steps, batches, strict=False):
            y = self.model(x)
            loss = F.l1_loss(y, x)
            for adversary in both:
                loss = loss + adversary.generator_loss(fake=y, real=x, step=step)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if both and both[0].is_due("discriminator", step):
                optimizer_D.zero_grad()
                sum(one.discriminator_loss(real=x, fake=y, step=step) for one in both).backward()
                optimizer_D.step()

    @torch.no_grad()
    def made(self, sound: Tensor) -> Tensor:
        """Return the reconstruction of a sound `(T,)`, as long as that."""
        padded = F.pad(sound, (0, -len(sound) % 64))
        return self.model(padded[None, None])[0, 0, : len(sound)].clamp(-1, 1)


def result_of(settings: Settings) -> Result:
    """Train in both ways, and return the scores on each sound that is held out and its reconstruction."""
    learned, held_out = sounds(settings.speech)
    torch.manual_seed(settings.seed)
    batches = segments_of(learned, settings.batch, settings.seed)
    began = time.process_time()
    common = Training(settings)
    common.advance(batches, range(settings.discriminator_start), None)
    rest = range(settings.discriminator_start, settings.steps)
    last = [next(batches) for _ in rest]
    seconds = time.process_time() - began
    scores: dict[str, dict[str, float]] = {}
    made: dict[str, Tensor] = {}
    for way in WAYS:
        began = time.process_time()
        training = copy.deepcopy(common)
        training.advance(last, rest, None if way == WAYS[0] else adversaries_of(settings))
        spent = seconds + time.process_time() - began
        for name, original in held_out.items():
            made[f"{name}, {way}"] = training.made(original)
            scores[f"{name}, {way}"] = {**scores_of(made[f"{name}, {way}"], original), "seconds": spent}
    return scores, made


# --- tables and pictures -------------------------------------------------------------------------------------


def draw_spectrograms(columns: Mapping[str, Mapping[str, Tensor]], path: Path) -> None:
    """Draw spectrograms in decibels: a column for each sound, a row for each version of it."""
    from matplotlib.figure import Figure

    count = len(next(iter(columns.values())))
    figure = Figure(figsize=(5 * len(columns), 2.1 * count), layout="constrained")
    axes = figure.subplots(count, len(columns), squeeze=False, sharex="col", sharey=True)
    for column, (name, versions) in enumerate(columns.items()):
        for ax, (version, sound) in zip(axes[:, column], versions.items(), strict=True):
            decibels = 10 * torch.log10(power(sound) + 1e-6)
            extent = (0, len(sound) / RATE, 0, RATE / 2000)
            ax.imshow(decibels.numpy(), origin="lower", aspect="auto", extent=extent, vmin=-60, vmax=10, cmap="magma")
            ax.set_title(f"{name}, {version}", fontsize=10)
        axes[-1, column].set_xlabel("seconds")
    for ax in axes[:, 0]:
        ax.set_ylabel("kHz")
    figure.savefig(path, dpi=80)


def compare(all_settings: Sequence[Settings], out: Path) -> None:
    """Train everything that is not there yet, print the table, and write spectrograms and sounds of the first seed."""
    results = [once(out / str(settings.seed), settings, partial(result_of, settings)) for settings in all_settings]
    _, held_out = sounds(all_settings[0].speech)
    print(table(COLUMNS, {name: [scores[name] for scores, _ in results] for name in results[0][0]}))
    columns: dict[str, dict[str, Tensor]] = {}
    for name, original in held_out.items():
        columns[name] = {"original": original, **{way: results[0][1][f"{name}, {way}"] for way in WAYS}}
    draw_spectrograms(
        {name: {v: s[: 2 * RATE] for v, s in versions.items()} for name, versions in columns.items()}, out / "sound.png"
    )
    for name, versions in columns.items():
        for version, sound in versions.items():
            write_wave(out / f"{name}-{version.replace(' ', '-')}.wav", sound[: 2 * RATE])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    has_speech = shutil.which("espeak-ng") is not None
    if not has_speech:
        print("espeak-ng is not installed, so there are tones alone: apt-get install espeak-ng\n")
    compare([Settings(seed, speech=has_speech) for seed in range(options.seeds)], options.out)
