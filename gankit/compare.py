"""Several losses on several seeds, and one table: does it help?

```
results.json      what was compared, and the figures of every training that is done
table.md          mean and standard deviation over the seeds, a row a loss
comparison.png    samples of the first seed, a panel a loss
```
"""

from __future__ import annotations

import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gankit.data import SampledBatches
from gankit.errors import (
    BadValueError,
    GankitWarning,
    MissingExtraError,
    NonFiniteDataError,
    NonFiniteError,
    OutputExistsError,
    warn,
)
from gankit.pictures import save_panels
from gankit.presets import Preset
from gankit.runs import environment, evaluate, evaluation_form, writable_folder
from gankit.spec import Spec
from gankit.training import AdversarialTrainer

_FORMAT = 1
_SCORES = ("discriminator_loss", "generator_loss", "real_score", "fake_score")


@dataclass(frozen=True)
class Entry:
    """One row of a comparison: a loss and the regularizers beside it.

    Args:
        loss: the loss's name and arguments.
        regularizers: the regularizers'; None for those of the preset.

    Example:
        >>> Entry.parse("wasserstein+weight_clipping:bound=0.1").label
        'wasserstein+weight_clipping:bound=0.1'
        >>> Entry.parse("hinge").regularizers is None, Entry.parse("hinge+none").regularizers
        (True, ())
    """

    loss: Spec
    regularizers: tuple[Spec, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Entry:
        """Read `loss`, `loss+regularizer+regularizer`, or `loss+none` for a loss alone.

        Raises:
            BadArgumentsError: for text that cannot be read.
        """
        loss, *others = re.split(r"\+(?=[a-z])", text)  # the sign in 1e+3 has a digit after it
        if not others:
            return cls(Spec.parse(loss))
        return cls(Spec.parse(loss), () if others == ["none"] else tuple(map(Spec.parse, others)))

    @property
    def label(self) -> str:
        """The entry as text, as `parse` reads it."""
        if self.regularizers is None:
            return str(self.loss)
        return "+".join(map(str, [self.loss, *self.regularizers])) if self.regularizers else f"{self.loss}+none"

    def applied_to(self, preset: Preset) -> Preset:
        """Return the preset with this loss and these regularizers."""
        if self.regularizers is None:
            return preset.replace(loss=self.loss)
        return preset.replace(loss=self.loss, regularizers=self.regularizers)


def split_entries(text: str) -> list[str]:
    """Split at the commas between losses, and not at those between a loss's arguments.

    Example:
        >>> split_entries("hinge,f_divergence:divergence=kl,scale=2,minimax+r1:weight=1,every=4,non_saturating")
        ['hinge', 'f_divergence:divergence=kl,scale=2', 'minimax+r1:weight=1,every=4', 'non_saturating']
    """
    # what follows a comma is another argument where it begins with `name=`, and in brackets it is a value
    return [part for part in re.split(r",(?!\w+=)(?![^\[]*\])", text) if part]


@dataclass(frozen=True)
class Outcome:
    """What one training came to.

    Args:
        label: of its entry.
        seed: of the training.
        seconds: how long the training took.
        figures: named results; a value that is not finite is None.

    Example:
        >>> Outcome("hinge", 0, 1.5, {"captured_modes": 8}).seconds
        1.5
    """

    label: str
    seed: int
    seconds: float
    figures: dict[str, float | None]


class Comparison:
    """Train each entry on each seed, and write one table.

    Seeds are outermost, so that an interrupted comparison still holds every entry equally often. What is written
    is complete after every training.

    Args:
        folder: a new or empty folder.
        preset: the model, its data and its number of steps.
        entries: losses, with regularizers or without.
        seeds: the seeds of each.
        device: where they train; None for CUDA where there is one, else the CPU.

    Attributes:
        outcomes: what is done, in order.

    Raises:
        BadValueError: for no entries, no seeds, or an entry or a seed given twice.

    Example:
        >>> from gankit.presets import ring
        >>> tiny = ring.replace(steps=2, batch_size=8)
        >>> entries = [Entry.parse("minimax+none"), Entry.parse("non_saturating")]
        >>> comparison = Comparison("compared", tiny, entries, seeds=[0, 1], device="cpu")
        >>> len(comparison.run())
        4
        >>> comparison.table().splitlines()[0]
        '| loss | seeds | captured modes | high quality, % | reverse KL |'
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
        for what, given in (("losses", [entry.label for entry in self.entries]), ("seeds", self.seeds)):
            if not given:
                raise BadValueError(f"{what} to compare must be one or more, got none")
            if len(set(given)) < len(given):
                raise BadValueError(f"{what} to compare must be different, got {', '.join(map(str, given))}")

    def run(self, on_outcome: Callable[[Outcome], None] | None = None) -> list[Outcome]:
        """Train all, or until `stop` or Ctrl-C; return what is done.

        Args:
            on_outcome: called after each training.

        Raises:
            OutputExistsError: for a folder that has something in it; it is left alone.
            OutputError: for a folder that cannot be written.
            GankitError: for an entry that cannot be built; there is no folder then.
        """
        for entry in self.entries:  # a mistake shows now, and not after an hour
            entry.applied_to(self.preset)(device="cpu")
        if not writable_folder(self.folder, "the comparison's folder"):
            raise OutputExistsError(
                f"the comparison's folder must be new or empty, got {str(self.folder)!r} with files in it; name "
                "another one"
            )
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
        """End `run` soon, without the training it is in; for signal handlers."""
        self._stopping = True
        if self._trainer is not None:
            self._trainer.stop()

    def table(self) -> str:
        """Return mean and standard deviation over the seeds as a table in Markdown, a row a loss.

        The standard deviation is that of a sample, with `n - 1`; one seed alone has none.
        """
        names = list(self.outcomes[0].figures) if self.outcomes else []
        columns = [_Column.of(name) for name in names if name not in ("modes", "samples")]
        lines = [
            _row("loss", "seeds", *(column.title for column in columns)),
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
        except NonFiniteError:  # to diverge is an outcome, and is counted as one
            pass
        metrics = trainer.read_metrics()  # waits for the device
        seconds = time.perf_counter() - started
        coverages = evaluate(trainer, batches, seed=seed)
        if not coverages:
            figures = {n: v if math.isfinite(v) else None for n in _SCORES if (v := metrics.get(n)) is not None}
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
            "losses": [entry.label for entry in self.entries],
            "seeds": self.seeds,
            "outcomes": [vars(outcome) for outcome in self.outcomes],
        }
        (self.folder / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (self.folder / "table.md").write_text(self.table(), encoding="utf-8")

    def _draw(self) -> None:
        shape = self.preset.sample_shape
        if not self.outcomes or not (shape == (2,) or (len(shape) == 3 and shape[0] in (1, 3))):
            return
        done = {outcome.label for outcome in self.outcomes}
        labels = [entry.label for entry in self.entries if entry.label in done]
        # a long title goes on in a second line
        panels = {label if len(label) < 35 else label.replace("+", "\n+", 1): self._panels[label] for label in labels}
        path = self.folder / "comparison.png"
        try:
            save_panels(panels, path, real=self._real, sample_range=self.preset.sample_range or (0.0, 1.0))
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
