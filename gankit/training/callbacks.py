"""Callbacks, which `fit` calls every few steps: they log metrics, draw samples, or move a progress bar.

With several ranks, only rank 0 acts.
"""

from __future__ import annotations

import abc
import importlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor
from typing_extensions import override

from gankit.context import StepContext
from gankit.errors import GankitWarning, MissingExtraError, check_count, warn
from gankit.files import append_line, finite_or_none, write_text
from gankit.network_modes import evaluating
from gankit.pictures import save_grid, save_points
from gankit.training.evaluation import Evaluate as Evaluate
from gankit.training.metrics_file import lines_until, read_lines
from gankit.training.step.metrics import MOST_READINGS
from gankit.training.trainer import AdversarialTrainer


class MetricsLog:
    """Append the metrics to a file, one JSON object per line. A value that is not finite is written as null.

    The last step of a `fit` has a line too. If it is no multiple of `every`, a later `fit` replaces that line.

    A training that continues from a saved state continues the file, without the lines of later steps; if it goes back
    to a checkpoint, the lines of the steps that are repeated are removed too. A file with lines of another training is
    refused when `fit` begins, before anything is written.

    Args:
        path: The `.jsonl` file. Its folder must exist.
        every: The number of steps between two lines.

    Raises:
        BadValueError: If `every` is less than 1.

    Example:
        >>> import tempfile
        >>> from gankit.presets import ring
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = MetricsLog(Path(folder, "metrics.jsonl"), every=10)
        ...     trainer = ring(device="cpu", callbacks=[log])
        ...     _ = trainer.fit(ring.batches(device="cpu"), steps=30)
        ...     [json.loads(line)["step"] for line in log.path.read_text().splitlines()]
        [10, 20, 30]
    """

    def __init__(self, path: str | Path, *, every: int = 100) -> None:
        check_count("every", every)
        self.path: Path = Path(path)
        self.every = every
        self._newest: int | None = None
        self._has_end = False

    def begin_fit(self, trainer: AdversarialTrainer) -> None:
        """Take over the lines that this training has written before.

        Raises:
            OutputExistsError: On every rank, for a file with lines of another training, or with something else.
        """

        def take_over() -> None:
            if self._newest is None or self._newest > trainer.steps_done:
                self._continue_after(trainer.steps_done, trainer)

        trainer.ranks.first(take_over)

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Append one line with the trainer's metrics."""
        if not trainer.ranks.is_first:
            return
        row = finite_or_none(trainer.read_metrics())
        if self._newest is None or self._newest >= trainer.steps_done:  # training went back to a checkpoint
            self._continue_after(trainer.steps_done - 1, trainer)
        elif self._has_end:
            self._continue_after(self._newest - 1, trainer)
        self._newest, self._has_end = trainer.steps_done, False
        append_line(self.path, json.dumps(row), "the log of the metrics")

    def end_fit(self, trainer: AdversarialTrainer) -> None:
        """Append the line of the last step, unless it has one."""
        if trainer.ranks.is_first and trainer.steps_done % self.every:
            self(trainer)
            self._has_end = True

    def resume(self, trainer: AdversarialTrainer) -> None:
        """Make the file hold the history of a trainer that continues from a checkpoint.

        Lines that are newer than the checkpoint, or were cut off when the process ended, are replaced. Lines of steps
        that are left out in a long history are kept.
        """
        if trainer.ranks.is_first:
            rows = {row["step"]: finite_or_none(row) for row in trainer.history}
            if len(rows) > MOST_READINGS // 2:
                lines = [line.row for line in read_lines(self.path, is_own=True)[0]]
                rows |= {row["step"]: row for row in lines if row["step"] <= trainer.steps_done} | rows
            texts = [json.dumps(rows[step]) + "\n" for step in sorted(rows)]
            write_text(self.path, "".join(texts), "the log of the metrics")
            trainer.state.metrics.logs.add(self.path.resolve())
            self._newest = trainer.steps_done
            self._has_end = self._newest in rows and self._newest % self.every != 0

    def _continue_after(self, step: int, trainer: AdversarialTrainer) -> None:
        """Remove the lines of later steps, if the file is that of this training."""
        state, path = trainer.state, self.path.resolve()
        known = {row["step"]: finite_or_none(row) for row in trainer.history}
        is_own, was_resumed = path in state.metrics.logs, state.resumed_from is not None
        kept = lines_until(self.path, step, known, is_own=is_own, was_resumed=was_resumed)
        state.metrics.logs.add(path)
        self._newest = step
        self._has_end = bool(kept) and kept[-1].row["step"] == step and step % self.every != 0


class TensorBoardLog:
    """Write the metrics as scalars for TensorBoard.

    A training that continues from a saved state, or goes back to a checkpoint, tells TensorBoard to hide what was
    written of the steps that are repeated (`purge_step`). A `GankitWarning` says so if another training has written to
    the folder.

    Args:
        folder: The folder of the event files.
        every: The number of steps between two readings of the metrics.

    Raises:
        BadValueError: If `every` is less than 1.
        MissingExtraError: At the first reading, if tensorboard is not installed (the extra `tensorboard`).
    """

    def __init__(self, folder: str | Path, *, every: int = 100) -> None:
        check_count("every", every)
        self.folder: Path = Path(folder)
        self.every = every
        self._writer: Any = None
        self._newest = 0

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Write the trainer's metrics under its step."""
        if not trainer.ranks.is_first:
            return
        if self._writer is None or self._newest >= trainer.steps_done:
            self._writer = self._open_writer(trainer)
        self._newest = trainer.steps_done
        for name, value in trainer.read_metrics().items():
            if name != "step":
                self._writer.add_scalar(name, value, trainer.steps_done)
        self._writer.flush()

    def end_fit(self, trainer: AdversarialTrainer) -> None:
        """Write the metrics of the last step, unless they were written."""
        if trainer.steps_done % self.every:
            self(trainer)

    def _open_writer(self, trainer: AdversarialTrainer) -> Any:
        try:
            module: Any = importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise MissingExtraError("TensorBoardLog needs tensorboard: pip install 'gankit[tensorboard]'") from error
        state, folder, purge_step = trainer.state, self.folder.resolve(), None
        if folder in state.metrics.logs:
            purge_step = trainer.steps_done
        elif state.resumed_from is not None:
            purge_step = state.resumed_from + 1
        elif any(folder.glob("events.out.tfevents.*")):
            warn(
                f"TensorBoard will mix this training with another one that has written to {str(self.folder)!r}; name "
                "another folder",
                GankitWarning,
            )
        state.metrics.logs.add(folder)
        if self._writer is not None:
            self._writer.close()
        return module.SummaryWriter(str(self.folder), purge_step=purge_step)


class _StepPictures(abc.ABC):
    """A callback that draws one picture per step into a folder, and draws none twice."""

    def __init__(self, folder: str | Path, every: int, count: int, seed: int) -> None:
        check_count("every", every)
        check_count("count", count)
        self.folder: Path = Path(folder)
        self.every = every
        self.count = count
        self.seed = seed
        self.written: list[Path] = []

    def file_at(self, step: int) -> Path:
        """Return the file that the picture of a step is written to."""
        return self.folder / f"step_{step:07d}.png"

    @abc.abstractmethod
    def draw(self, trainer: AdversarialTrainer, path: Path) -> None:
        """Draw the picture of the trainer's step into a file."""

    def resume(self, trainer: AdversarialTrainer) -> None:
        """Take over the pictures that were drawn before the checkpoint that a trainer continues from.

        Pictures of other steps, which are drawn when a run is stopped, are left out.
        """
        steps = range(0, trainer.steps_done + 1, self.every)
        self.written = [path for path in map(self.file_at, steps) if path.exists()]

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Draw the picture of the trainer's step, unless it was already drawn."""
        path = self.file_at(trainer.steps_done)
        if trainer.ranks.is_first and path not in self.written:
            self.draw(trainer, path)
            self.written.append(path)


class SampleGrids(_StepPictures):
    """Write grids of samples, such as `step_0000500.png`. All grids are generated from the same latents.

    Args:
        folder: The folder of the pictures.
        every: The number of steps between two pictures.
        count: The number of samples in a picture.
        sample_range: The values that are drawn black and white. None takes the trainer's, and those that `save_grid`
            chooses if it has none.
        condition: The condition of each sample, for conditional networks.
        seed: The seed of the latents.

    Attributes:
        written: The files that were written, in order.

    Raises:
        BadValueError: If `every` or `count` is less than 1.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from gankit.presets import vanilla_mnist
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     grids = SampleGrids(folder, every=2, count=4)
        ...     trainer = vanilla_mnist(device="cpu", callbacks=[grids])
        ...     _ = trainer.fit([torch.rand(8, 1, 28, 28)], steps=4)
        ...     [path.name for path in grids.written]
        ['step_0000002.png', 'step_0000004.png']
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 500,
        count: int = 64,
        sample_range: tuple[float, float] | None = None,
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
        save_grid(samples, path, sample_range=self.sample_range or trainer.sample_range)


class PointClouds(_StepPictures):
    """Draw generated points over real points, such as `step_0000500.png`, with D's logits in colour behind them.

    All pictures are generated from the same latents. Of a discriminator that judges a sample several times, the mean
    judgement is drawn, added over the heads. With replicas, each has a discriminator of its own, and no logits are
    drawn.

    Args:
        folder: The folder of the pictures.
        real: The real samples, `(N, 2)`.
        every: The number of steps between two pictures.
        count: The number of generated points in a picture.
        seed: The seed of the latents.

    Attributes:
        written: The files that were written, in order.

    Raises:
        BadValueError: If `every` or `count` is less than 1.
        MissingExtraError: At the first picture, if matplotlib is not installed (the extra `plots`).
    """

    def __init__(self, folder: str | Path, real: Tensor, *, every: int = 500, count: int = 2000, seed: int = 0) -> None:
        super().__init__(folder, every, count, seed)
        self.real = real

    @override
    def draw(self, trainer: AdversarialTrainer, path: Path) -> None:
        """Draw one picture."""
        generated = sample_replicas(trainer, self.count, seed=self.seed)
        title = f"step {trainer.steps_done:,}"
        randomness = trainer.randomness
        noise = None if trainer.replicas is not None else randomness.generators([self.seed])
        with evaluating(trainer.discriminator), randomness.drawn_from(noise):
            # the logits of several discriminators cannot be shown in one picture
            context = StepContext(discriminator=trainer.discriminator)
            logits = context.sample_logits if trainer.replicas is None else None
            save_points(self.real, generated, path, logits=logits, title=title)


def sample_replicas(
    trainer: AdversarialTrainer, count: int, condition: Tensor | None = None, seed: int | None = None
) -> Tensor:
    """Return samples for a picture. With replicas, each of them in turn generates one.

    Args:
        trainer: The trainer whose generator is used; see `AdversarialTrainer.sample`.
        count: The number of samples in all.
        condition: The condition of each sample. Every replica begins with the first one.
        seed: The seed of the latents. None continues the stream of the trainer's samples.

    Returns:
        `(count, *sample_shape)`.

    Raises:
        BadValueError: If `count` is less than 1.

    Example:
        >>> from gankit.presets import ring
        >>> sample_replicas(ring(device="cpu", replicas=3), 5).shape
        torch.Size([5, 2])
    """
    if trainer.replicas is None:
        return trainer.sample(count, condition, seed)
    each = -(-count // trainer.replicas)
    samples = trainer.sample(each, None if condition is None else condition[:each], seed)
    return samples.transpose(0, 1).flatten(0, 1)[:count]


class ProgressBar:
    """A progress bar that shows both losses, D(x), D(G(z)) and the steps per second. Use it in a `with` block.

    Args:
        steps: The total number of steps.
        every: The number of steps between two updates of the bar.
        **options: Further arguments for `tqdm.tqdm`.

    Raises:
        BadValueError: If `every` is less than 1.

    Example:
        >>> import io
        >>> from gankit.presets import ring
        >>> trainer, screen = ring(device="cpu"), io.StringIO()
        >>> with ProgressBar(20, file=screen) as bar:
        ...     trainer.callbacks.append(bar)
        ...     _ = trainer.fit(ring.batches(device="cpu"), steps=20)
        >>> "20/20" in screen.getvalue()
        True
    """

    def __init__(self, steps: int, *, every: int = 10, **options: Any) -> None:
        from tqdm import tqdm

        check_count("every", every)
        self.every = every
        self._bar: Any = tqdm(total=steps, unit="step", dynamic_ncols=True, **options)

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Move the bar to the trainer's step, and show the newest reading of the metrics."""
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

    def end_fit(self, trainer: AdversarialTrainer) -> None:
        """Move the bar to the last step."""
        self(trainer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._bar.close()
        except (OSError, ValueError):  # of a terminal that was closed
            if error is None:
                raise
