"""`Comparison`: train several variants of a model on several seeds, and summarise them in one table.

```
results.json      what is compared, and the figures of every training that is done
table.md          mean and standard deviation over the seeds, one row per entry
comparison.png    samples of the first seed, one panel per entry
```
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gankit.compare.entries import Entry
from gankit.data import SampledBatches
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
from gankit.pictures import save_panels
from gankit.presets import Preset
from gankit.runs import environment, evaluate, evaluation_form
from gankit.training import AdversarialTrainer

_FORMAT = 2
_SCORES = ("discriminator_loss", "generator_loss", "real_score", "fake_score")


@dataclass(frozen=True)
class Outcome:
    """The result of one training.

    Args:
        label: The label of its entry.
        seed: The seed of the training.
        seconds: The duration of the training, in seconds.
        figures: The results by name. A value that is not finite is None.
    """

    label: str
    seed: int
    seconds: float
    figures: dict[str, float | None]


class Comparison:
    """Train each entry on each seed, and write one table.

    All entries are trained on one seed before the next, so that an interrupted comparison has trained every entry
    about equally often. The files are complete after every training.

    Args:
        folder: A new or empty folder.
        preset: The model, its data and its number of steps.
        entries: The variants: what each of them changes in the preset.
        seeds: The seeds on which each entry is trained.
        device: The device to train on. None takes CUDA where there is one, and the CPU otherwise.

    Attributes:
        folder: The folder.
        preset: The preset.
        entries: The entries, as a list.
        seeds: The seeds, as a list.
        device: The device.
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
        '| entry | seeds | captured modes | high quality, % | reverse KL |'
    """

    def __init__(
        self,
        folder: str | Path,
        preset: Preset,
        entries: Sequence[Entry],
        *,
        seeds: Sequence[int] = (0,),
        device: str | None = None,
    ) -> None:
        self.folder: Path = Path(folder)
        self.preset = preset
        self.entries: list[Entry] = list(entries)
        self.seeds: list[int] = list(seeds)
        self.device = device
        self.outcomes: list[Outcome] = []
        self._panels: dict[str, Tensor] = {}
        self._real: Tensor | None = None
        self._trainer: AdversarialTrainer | None = None
        self._stopping = False
        for what, given in (("entries", [entry.label for entry in self.entries]), ("seeds", self.seeds)):
            if not given:
                raise BadValueError(f"{what} to compare must be one or more, got none")
            if len(set(given)) < len(given):
                raise BadValueError(f"{what} to compare must be different, got {', '.join(map(str, given))}")

    def run(self, on_outcome: Callable[[Outcome], None] | None = None) -> list[Outcome]:
        """Train every entry on every seed, unless `stop` ends the comparison early.

        Args:
            on_outcome: A function that is called after each training.

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
            for entry, seed in self._trainings():
                outcome = self._train(entry, seed)
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
        """Return a table in Markdown: the mean and the standard deviation over the seeds, one row per entry.

        The standard deviation is that of a sample, with `n - 1`. A single seed has none.
        """
        names = list(self.outcomes[0].figures) if self.outcomes else []
        columns = [_Column.of(name) for name in names if name not in ("modes", "samples")]
        lines = [
            _row("entry", "seeds", *(column.title for column in columns)),
            "|" + "---|" * (2 + len(columns)),
        ]
        for entry in self.entries:
            done = [outcome for outcome in self.outcomes if outcome.label == entry.label]
            cells = [column.cell([outcome.figures[column.name] for outcome in done]) for column in columns]
            lines.append(_row(f"`{entry.label}`", str(len(done)), *cells))
        return "\n".join(lines) + "\n"

    def _trainings(self) -> Iterator[tuple[Entry, int]]:
        for seed in self.seeds:
            for entry in self.entries:
                if self._stopping:
                    return
                yield entry, seed

    def _train(self, entry: Entry, seed: int) -> Outcome:
        preset = entry.applied_to(self.preset)
        trainer = self._trainer = preset(device=self.device, seed=seed, log_every_steps=preset.steps)
        batches = preset.batches(device=trainer.device, seed=seed)
        started = time.perf_counter()
        try:
            trainer.fit(batches, steps=preset.steps)
        except NonFiniteDataError:
            raise
        except NonFiniteError:  # divergence is a result too
            pass
        metrics = trainer.read_metrics()  # waits until the device is done
        seconds = time.perf_counter() - started
        coverages = evaluate(trainer, batches, seed=seed)
        if not coverages:
            figures = finite_or_none({name: metrics[name] for name in _SCORES if name in metrics})
        else:
            figures = evaluation_form(coverages[0])
        if entry.label not in self._panels:
            self._panels[entry.label] = self._panel(trainer, seed)
        if self._real is None and isinstance(batches, SampledBatches):
            random = torch.Generator().manual_seed(seed)
            self._real = batches.sampler.sample(1000, generator=random)
        return Outcome(entry.label, seed, seconds, figures)

    def _panel(self, trainer: AdversarialTrainer, seed: int) -> Tensor:
        is_picture = len(self.preset.sample_shape) == 3
        count = 16 if is_picture else 1000
        return trainer.sample(count, self.preset.labels(count), seed).cpu()

    def _write(self) -> None:
        content = {
            "format": _FORMAT,
            "preset": self.preset.to_dict(),
            "environment": environment(self.device),
            "entries": [entry.label for entry in self.entries],
            "seeds": self.seeds,
            "outcomes": [vars(outcome) for outcome in self.outcomes],
        }
        what = "the comparison's folder"
        write_text(self.folder / "results.json", json.dumps(content, indent=2) + "\n", what)
        write_text(self.folder / "table.md", self.table(), what)

    def _draw(self) -> None:
        shape = self.preset.sample_shape
        if not self.outcomes or not (shape == (2,) or (len(shape) == 3 and shape[0] in (1, 3))):
            return
        done = {outcome.label for outcome in self.outcomes}
        labels = [entry.label for entry in self.entries if entry.label in done]
        # a long title continues in a second line
        panels = {label if len(label) < 35 else label.replace("+", "\n+", 1): self._panels[label] for label in labels}
        path = self.folder / "comparison.png"
        try:
            save_panels(panels, path, real=self._real, sample_range=self.preset.sample_range)
        except MissingExtraError as error:
            warn(f"{path.name} is missing: {error}", GankitWarning)


@dataclass(frozen=True)
class _Column:
    name: str
    title: str
    scale: float
    digits: int

    @classmethod
    def of(cls, name: str) -> _Column:
        title, scale, digits = {
            "captured_modes": ("captured modes", 1.0, 1),
            "high_quality_share": ("high quality, %", 100.0, 1),
            "reverse_kl": ("reverse KL", 1.0, 3),
        }.get(name, (name.replace("_", " "), 1.0, 3))
        return cls(name, title, scale, digits)

    def cell(self, values: Sequence[float | None]) -> str:
        finite = [self.scale * value for value in values if value is not None]
        if not finite:
            return "–"
        text = f"{statistics.fmean(finite):.{self.digits}f}"
        if len(finite) > 1:
            text += f" ± {statistics.stdev(finite):.{self.digits}f}"
        return text if len(finite) == len(values) else f"{text} ({len(finite)} of {len(values)})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
