"""`Comparison`: train several variants of a model on several seeds, and summarise them in tables.

```
results.json      what is compared, the scores of every training that is done, and the differences
table.md          what each entry scores beside real samples, and how it differs from the first one
comparison.png    samples of the first seed, one panel per entry
```
"""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from gankit.compare.entries import Entry
from gankit.compare.forecast import Forecast
from gankit.compare.outcomes import Outcome
from gankit.compare.paired import Difference
from gankit.compare.table import differences, tables
from gankit.errors import (
    BadValueError,
    GankitWarning,
    MissingExtraError,
    NonFiniteDataError,
    NonFiniteError,
    warn,
)
from gankit.files import finite_or_none, write_text
from gankit.locks import FolderLock
from gankit.metrics import Evaluation, Evaluator
from gankit.pictures import save_panels
from gankit.presets import Preset
from gankit.runs import environment, evaluator_for, real_points
from gankit.training import AdversarialTrainer, score_generator

_FORMAT = 2
_TITLE_WIDTH = 36  # of a panel, in characters
_FIGURES = ("discriminator_loss", "generator_loss", "real_score", "fake_score")


class Comparison:
    """Train each entry on each seed, score the samples, and say how each entry differs from the first one.

    The first entry is the baseline. Differences are paired by seed, because a part of the spread over the seeds, such
    as that of the initial weights, is the same for all entries; see `paired_difference`.

    All entries are trained on one seed before the next, so that an interrupted comparison has trained every entry
    about equally often. The files are complete after every training.

    Args:
        folder: A new or empty folder.
        preset: The model, its data and its number of steps.
        entries: The variants: what each of them changes in the preset. The others are compared with the first one.
        seeds: The seeds on which each entry is trained.
        device: The device to train on. None takes CUDA where there is one, and the CPU otherwise.
        evaluator: What scores the samples. None takes the one for the preset's data. Without one, the tables show the
            last losses, which are no measure of quality.

    Attributes:
        folder: The folder.
        preset: The preset.
        entries: The entries, as a list.
        seeds: The seeds, as a list.
        device: The device.
        evaluator: What scores the samples, or None; that of the data is there after `run` has begun.
        outcomes: The results of the trainings that are done, in order.

    Raises:
        BadValueError: For no entries, no seeds, or an entry or a seed that is given twice.

    Example:
        >>> from gankit.presets import ring
        >>> tiny = ring.replace(steps=2, batch_size=8)
        >>> entries = [Entry.parse("minimax+none"), Entry.parse("non_saturating")]
        >>> comparison = Comparison("compared", tiny, entries, seeds=[0, 1], device="cpu")
        >>> len(comparison.run())
        4
        >>> comparison.table().splitlines()[0]
        '| entry | seeds | captured_modes ↑ | high_quality_share ↑ | reverse_kl ↓ |'
        >>> comparison.differences()["non_saturating"]["captured_modes"].seeds
        2
    """

    def __init__(
        self,
        folder: str | Path,
        preset: Preset,
        entries: Sequence[Entry],
        *,
        seeds: Sequence[int] = (0,),
        device: str | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.folder: Path = Path(folder)
        self.preset = preset
        self.entries: list[Entry] = list(entries)
        self.seeds: list[int] = list(seeds)
        self.device = device
        self.evaluator = evaluator
        self.outcomes: list[Outcome] = []
        self._panels: dict[str, Tensor] = {}
        self._real: Tensor | None = None
        self._trainer: AdversarialTrainer | None = None
        self._stopping = False
        for what, given in (("entries", self._labels), ("seeds", self.seeds)):
            if not given:
                raise BadValueError(f"{what} to compare must be one or more, got none")
            if len(set(given)) < len(given):
                raise BadValueError(f"{what} to compare must be different, got {', '.join(map(str, given))}")

    @property
    def trainings(self) -> int:
        """The number of trainings of the whole comparison."""
        return len(self.entries) * len(self.seeds)

    def run(
        self,
        on_outcome: Callable[[Outcome], None] | None = None,
        on_forecast: Callable[[float], None] | None = None,
    ) -> list[Outcome]:
        """Train every entry on every seed, unless `stop` ends the comparison early.

        Args:
            on_outcome: A function that is called after each training.
            on_forecast: A function that is called once, in the first seconds, with the expected duration of all
                trainings and their evaluation, in seconds.

        Returns:
            The results of the trainings that are done.

        Raises:
            OutputExistsError: For a folder that is not empty. Nothing in it is changed.
            OutputError: For a folder that cannot be written to, or that another process writes into.
            GankitError: For an entry that cannot be built. No folder is made.
        """
        for entry in self.entries:  # a mistake must show at once, not after an hour
            entry.applied_to(self.preset)(device="cpu")
        with FolderLock(self.folder, "the comparison's folder", must_be_new=True):
            self._write()
            for entry, seed in self._planned():
                outcome = self._train(entry, seed, on_forecast)
                on_forecast = None
                if self._stopping:
                    break
                self.outcomes.append(outcome)
                self._write()
                if on_outcome is not None:
                    on_outcome(outcome)
            self._draw()
        return self.outcomes

    def stop(self) -> None:
        """End `run` soon, without a result of the current training; for signal handlers."""
        self._stopping = True
        if self._trainer is not None:
            self._trainer.stop()

    def table(self) -> str:
        """Return the tables in Markdown: what each entry scores, and how it differs from the first one.

        Every table has a row for real samples. Deviations over the seeds are those of a sample, with `n - 1`.
        """
        return tables(self._labels, self.outcomes)

    def differences(self) -> dict[str, dict[str, Difference]]:
        """Return how each entry differs from the first one, by label and metric, on the seeds that both have."""
        return differences(self._labels, self.outcomes)

    @property
    def _labels(self) -> list[str]:
        return [entry.label for entry in self.entries]

    def _planned(self) -> Iterator[tuple[Entry, int]]:
        for seed in self.seeds:
            for entry in self.entries:
                if self._stopping:
                    return
                yield entry, seed

    def _train(self, entry: Entry, seed: int, on_forecast: Callable[[float], None] | None) -> Outcome:
        preset = entry.applied_to(self.preset)
        trainer = self._trainer = preset(device=self.device, seed=seed, log_every_steps=preset.steps)
        batches = preset.batches(device=trainer.device, seed=seed)
        if not self.outcomes:
            self.evaluator = self.evaluator or evaluator_for(preset, batches)
            self._real = real_points(batches, seed)
        forecast = self._forecast(trainer, preset, seed, on_forecast)
        started = time.perf_counter()
        has_diverged = False
        try:
            trainer.fit(batches, steps=preset.steps)
        except NonFiniteDataError:
            raise
        except NonFiniteError:  # divergence is a result too
            has_diverged = True
        metrics = trainer.read_metrics()  # waits until the device is done
        seconds = time.perf_counter() - started
        if forecast is not None:
            forecast.finish(trainer)
        figures = finite_or_none({name: metrics[name] for name in _FIGURES if name in metrics})
        self._panels.setdefault(entry.label, self._panel(trainer, preset, seed))
        return Outcome(entry.label, seed, seconds, has_diverged, figures, self._evaluation(trainer, preset, seed))

    def _evaluation(self, trainer: AdversarialTrainer, preset: Preset, seed: int) -> Evaluation | None:
        if self.evaluator is None:
            return None
        return score_generator(trainer, self.evaluator, condition=preset.labels(self.evaluator.samples), seed=seed)

    def _forecast(
        self, trainer: AdversarialTrainer, preset: Preset, seed: int, announce: Callable[[float], None] | None
    ) -> Forecast | None:
        """Return a forecast among the trainer's callbacks, or None if nobody asks for one."""
        if announce is None:
            return None
        started = time.perf_counter()
        self._evaluation(trainer, preset, seed)  # of the initial weights, so that a mistake shows before training
        evaluations = self.trainings * (time.perf_counter() - started)
        steps = len(self.seeds) * sum(entry.applied_to(self.preset).steps for entry in self.entries)
        forecast = Forecast(steps, evaluations, announce)
        trainer.callbacks.append(forecast)
        return forecast

    def _panel(self, trainer: AdversarialTrainer, preset: Preset, seed: int) -> Tensor:
        is_picture = len(preset.sample_shape) == 3
        count = 16 if is_picture else 1000
        return trainer.sample(count, preset.labels(count), seed).cpu()

    def _write(self) -> None:
        found = self.differences()
        content = {
            "format": _FORMAT,
            "preset": self.preset.to_dict(),
            "environment": environment(self.device),
            "entries": self._labels,
            "seeds": self.seeds,
            "outcomes": [outcome.to_dict() for outcome in self.outcomes],
            "differences": {
                label: {metric: one.to_dict() for metric, one in metrics.items()} for label, metrics in found.items()
            },
        }
        what = "the comparison's folder"
        write_text(self.folder / "results.json", json.dumps(content, indent=2) + "\n", what)
        write_text(self.folder / "table.md", self.table(), what)

    def _draw(self) -> None:
        shape = self.preset.sample_shape
        if not self.outcomes or not (shape == (2,) or (len(shape) == 3 and shape[0] in (1, 3))):
            return
        done = {outcome.label for outcome in self.outcomes}
        labels = [label for label in self._labels if label in done]
        panels = {textwrap.fill(label, _TITLE_WIDTH): self._panels[label] for label in labels}
        path = self.folder / "comparison.png"
        try:
            save_panels(panels, path, real=self._real, sample_range=self.preset.sample_range)
        except MissingExtraError as error:
            warn(f"{path.name} is missing: {error}", GankitWarning)
