"""What `fit` does now and then: log metrics, draw samples, move a progress bar. Of several ranks, rank 0."""

from __future__ import annotations

import abc
import importlib
import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor
from typing_extensions import override

from gankit.errors import MissingExtraError, check_count
from gankit.pictures import save_grid, save_points
from gankit.training.step.modes import evaluating
from gankit.training.trainer import AdversarialTrainer


class MetricsLog:
    """Append the metrics to a file, one JSON object a line; a value that is not finite becomes null.

    Args:
        path: a `.jsonl` file; its folder must exist.
        every: steps between two lines.
    """

    def __init__(self, path: str | Path, *, every: int = 100) -> None:
        check_count("every", every)
        self.path: Path = Path(path)
        self.every = every
        self._newest = 0

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Append one line."""
        if not trainer.ranks.is_first:
            return
        row = {k: v if math.isfinite(v) else None for k, v in trainer.read_metrics().items()}
        if trainer.steps_done <= self._newest:  # training went back to a checkpoint
            self._cut_back(trainer.steps_done)
        self._newest = trainer.steps_done
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _cut_back(self, step: int) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        self.path.write_text("".join(line for line in lines if json.loads(line)["step"] < step), encoding="utf-8")


class TensorBoardLog:
    """Write the metrics for TensorBoard (the extra `tensorboard`).

    Args:
        folder: where the event files go.
        every: steps between two readings.

    Raises:
        MissingExtraError: at the first reading, without tensorboard.
    """

    def __init__(self, folder: str | Path, *, every: int = 100) -> None:
        check_count("every", every)
        self.folder: Path = Path(folder)
        self.every = every
        self._writer: Any = None

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Write one reading."""
        if not trainer.ranks.is_first:
            return
        if self._writer is None:
            try:
                module: Any = importlib.import_module("torch.utils.tensorboard")
            except ImportError as error:
                raise MissingExtraError(
                    "TensorBoardLog needs tensorboard: pip install 'gankit[tensorboard]'"
                ) from error
            self._writer = module.SummaryWriter(str(self.folder))
        for name, value in trainer.read_metrics().items():
            if name != "step":
                self._writer.add_scalar(name, value, trainer.steps_done)
        self._writer.flush()


class _StepPictures(abc.ABC):
    """What pictures of a step share: their files, and that each is drawn once."""

    def __init__(self, folder: str | Path, every: int, count: int, seed: int) -> None:
        check_count("every", every)
        check_count("count", count)
        self.folder: Path = Path(folder)
        self.every = every
        self.count = count
        self.seed = seed
        self.written: list[Path] = []

    def file_at(self, step: int) -> Path:
        """Return the file of one step."""
        return self.folder / f"step_{step:07d}.png"

    @abc.abstractmethod
    def draw(self, trainer: AdversarialTrainer, path: Path) -> None:
        """Draw one picture into a file."""

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Draw the picture of the trainer's step, unless it is there."""
        path = self.file_at(trainer.steps_done)
        if trainer.ranks.is_first and path not in self.written:
            self.draw(trainer, path)
            self.written.append(path)


class SampleGrids(_StepPictures):
    """Write a grid of samples from the same latents each time: `step_0000500.png`.

    Args:
        folder: where the pictures go.
        every: steps between two pictures.
        count: samples a picture.
        sample_range: the values of black and white.
        condition: the samples' condition, where the networks are conditional.
        seed: of the latents.

    Attributes:
        written: the pictures' files, in order.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 500,
        count: int = 64,
        sample_range: tuple[float, float] = (0.0, 1.0),
        condition: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(folder, every, count, seed)
        self.sample_range = sample_range
        self.condition = condition

    @override
    def draw(self, trainer: AdversarialTrainer, path: Path) -> None:
        """Write one grid."""
        samples = sample_replicas(trainer, self.count, self.condition, self.seed)
        save_grid(samples, path, sample_range=self.sample_range)


class PointClouds(_StepPictures):
    """Draw generated points over real ones and D's logit, from the same latents each time: `step_0000500.png`.

    Args:
        folder: where the pictures go.
        real: real samples, `(N, 2)`.
        every: steps between two pictures.
        count: generated points a picture.
        seed: of the latents.

    Attributes:
        written: the pictures' files, in order.
    """

    def __init__(self, folder: str | Path, real: Tensor, *, every: int = 500, count: int = 2000, seed: int = 0) -> None:
        super().__init__(folder, every, count, seed)
        self.real = real

    @override
    def draw(self, trainer: AdversarialTrainer, path: Path) -> None:
        """Draw one cloud."""
        generated = sample_replicas(trainer, self.count, seed=self.seed)
        title = f"step {trainer.steps_done:,}"
        with evaluating(trainer.discriminator):
            # of several discriminators, none is the one to show
            logits = trainer.discriminator if trainer.replicas is None else None
            save_points(self.real, generated, path, logits=logits, title=title)


def sample_replicas(
    trainer: AdversarialTrainer, count: int, condition: Tensor | None = None, seed: int | None = None
) -> Tensor:
    """Return `count` samples for a picture: with replicas, equally many of each, one replica after the other.

    Args:
        trainer: as for all below, see `AdversarialTrainer.sample`.
        count: how many in all.
        condition: of each sample; with replicas, each begins with the first.
        seed: of the latents.

    Example:
        >>> from gankit.presets import ring
        >>> sample_replicas(ring(device="cpu", replicas=3), 5).shape
        torch.Size([5, 2])
    """
    if trainer.replicas is None:
        return trainer.sample(count, condition, seed)
    each = -(-count // trainer.replicas)
    samples = trainer.sample(each, None if condition is None else condition[:each], seed)
    return samples.flatten(0, 1)[:count]


class ProgressBar:
    """A progress bar with losses, D(x), D(G(z)) and steps a second; use it in a `with` block.

    Args:
        steps: the total.
        every: steps between two movements.
        **options: for `tqdm.tqdm`.

    Example:
        >>> import io
        >>> with ProgressBar(100, file=io.StringIO()) as bar:
        ...     bar.every
        10
    """

    def __init__(self, steps: int, *, every: int = 10, **options: Any) -> None:
        from tqdm import tqdm

        check_count("every", every)
        self.every = every
        self._bar: Any = tqdm(total=steps, unit="step", dynamic_ncols=True, **options)

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Move the bar to the trainer's step, and show what was read last."""
        if not trainer.ranks.is_first:
            return
        if trainer.history:
            last = trainer.history[-1]
            shown = {
                "D loss": "discriminator_loss",
                "G loss": "generator_loss",
                "D(x)": "real_score",
                "D(G(z))": "fake_score",
            }
            text = ", ".join(f"{label} {last[name]:.2f}" for label, name in shown.items() if name in last)
            self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(trainer.steps_done - self._bar.n)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
