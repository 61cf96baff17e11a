"""A training run on disk: one folder with its recipe, metrics, pictures and weights.

```
recipe.json             enough to rebuild everything
environment.json        versions and hardware
metrics.jsonl           one line of metrics every log_every_steps
samples/                a grid of pictures, or points, from the same latents every sample_every_steps
samples.gif             these pictures in motion
curves.png              losses, D(x) and D(G(z)) over the steps
checkpoints/            what a run that was interrupted goes on from
evaluation.json         at the end, where the data has modes: how many were found, and how well
generator.safetensors, averaged_generator.safetensors (with averaging), discriminator.safetensors
```
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import platform
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]

from gankit.data import Mixture, SampledBatches, TensorBatches
from gankit.devices import resolve_device
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DataError,
    DataNotFoundError,
    GankitError,
    MissingExtraError,
    NonFiniteError,
    OutputError,
    OutputExistsError,
    RecipeDiffersError,
    check_count,
    check_seed,
    warn,
)
from gankit.latents import LATENTS
from gankit.metrics import ModeCoverage, mode_coverage
from gankit.pictures import save_animation, save_curves, save_grid, save_points
from gankit.presets import Preset
from gankit.presets.preset import build_networks
from gankit.protocols import Batch
from gankit.seeds import stream_seed
from gankit.training import (
    AdversarialTrainer,
    Checkpoint,
    Checkpointer,
    MetricsLog,
    PointClouds,
    ProgressBar,
    Ranks,
    SampleGrids,
    load_newest,
)
from gankit.training.callbacks import sample_replicas
from gankit.training.checkpoint import has_checkpoints
from gankit.version import __version__

_FORMAT = 1
_POINTS = 2000  # of a picture of points in the plane
_MOST_RECIPE_BYTES = 1 << 16
_MOST_HEADER_BYTES = 1 << 16
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a run is made from.

    Args:
        preset: the model, its data and its number of steps.
        seed: of initial weights, noise, and order of the data.
        device: where it trains; None for CUDA where there is one, else the CPU.
        replicas: how many models are trained side by side, on the seeds `seed`, `seed + 1`, ...; None for one.
        log_every_steps: steps between two lines of metrics.
        sample_every_steps: steps between two grids of samples.
        checkpoint_every_steps: steps between two checkpoints; 0 for none.
        check_every_steps: see `AdversarialTrainer`.
        ranks: how many processes train the model together, each with batches of the preset's size.

    Example:
        >>> from gankit.presets import vanilla_mnist
        >>> recipe = Recipe(preset=vanilla_mnist, seed=3)
        >>> Recipe.from_dict(recipe.to_dict()) == recipe
        True
    """

    preset: Preset
    seed: int = 0
    device: str | None = None
    replicas: int | None = None
    log_every_steps: int = 39
    sample_every_steps: int = 195
    checkpoint_every_steps: int = 100
    check_every_steps: int | None = None
    ranks: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.preset, Preset):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadArgumentsError(f"a recipe's preset must be a Preset, got {self.preset!r}")
        check_seed(self.seed)
        if not isinstance(self.device, str | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadArgumentsError(f"a recipe's device must be a name such as 'cpu', or None, got {self.device!r}")
        if self.replicas is not None:
            check_count("replicas", self.replicas)
        check_count("log_every_steps", self.log_every_steps)
        check_count("sample_every_steps", self.sample_every_steps)
        check_count("checkpoint_every_steps", self.checkpoint_every_steps, zero=True)
        if self.check_every_steps is not None:
            check_count("check_every_steps", self.check_every_steps)
        check_count("ranks", self.ranks)
        if self.preset.on_non_finite == "rollback" and not self.checkpoint_every_steps:
            raise BadValueError("checkpoint_every_steps must be above 0 with on_non_finite='rollback', got 0")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe in plain containers that JSON knows."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"format": _FORMAT} | fields | {"preset": self.preset.to_dict()}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_dict` described; `BadArgumentsError` where it is none."""
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(form, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadArgumentsError(f"a recipe must be a mapping of names to values, got {form!r}")
        fields: dict[str, Any] = {name: value for name, value in form.items() if name != "format"}
        if form.get("format") != _FORMAT or fields.keys() - known or "preset" not in fields:
            raise BadArgumentsError(
                f"a recipe must have format {_FORMAT} and {', '.join(sorted(known))}, got {sorted(form)}"
            )
        with _told("a recipe must hold a preset"):
            fields["preset"] = Preset.from_dict(form["preset"])
        return cls(**fields)

    def differences(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Return what another recipe says otherwise: by name, what is said here and there.

        Example:
            >>> from gankit.presets import vanilla_mnist
            >>> recipe = Recipe(preset=vanilla_mnist)
            >>> recipe.differences(Recipe(preset=vanilla_mnist.replace(batch_size=32), seed=1))
            {'batch_size': (128, 32), 'seed': (0, 1)}
        """
        mine, theirs = ({**form.pop("preset"), **form} for form in (self.to_dict(), other.to_dict()))
        return {name: (value, theirs[name]) for name, value in mine.items() if value != theirs[name]}


class Run:
    """A run's folder.

    Args:
        folder: where it is, or will be; `Run.open` reads the recipe of one that is there.
        recipe: what it is made from.

    Attributes:
        folder: where it is.
        recipe: what it is made from.
        trainer: what `train` trains, or None before.
        evaluations: the modes that `train` found, of each replica, where the data has modes.

    Example:
        >>> from gankit.presets import vanilla_mnist
        >>> tiny = vanilla_mnist.replace(steps=2, batch_size=8)
        >>> trainer = Run("run", Recipe(preset=tiny, device="cpu")).train(progress=False)
        >>> Run.open("run").load_trainer().sample(4).shape
        torch.Size([4, 1, 28, 28])
    """

    def __init__(self, folder: str | Path, recipe: Recipe) -> None:
        self.folder: Path = Path(folder)
        self.recipe = recipe
        self.trainer: AdversarialTrainer | None = None
        self.evaluations: list[ModeCoverage] = []
        self._stopping = False

    @property
    def metrics_file(self) -> Path:
        """`metrics.jsonl`."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """`checkpoints`, a folder."""
        return self.folder / "checkpoints"

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read the recipe of a run.

        Raises:
            DataNotFoundError: for a folder without a recipe.
            BadArgumentsError: for a recipe that cannot be read.
        """
        path = Path(folder) / "recipe.json"
        try:
            if not path.is_file():  # a pipe would be waited for
                raise FileNotFoundError
            with path.open("rb") as file:
                content = file.read(_MOST_RECIPE_BYTES + 1)
            if len(content) > _MOST_RECIPE_BYTES:
                raise BadArgumentsError(f"{path} must have at most {_MOST_RECIPE_BYTES} bytes, got more")
            form = json.loads(content)
        except OSError:
            raise DataNotFoundError(f"a run's folder must hold recipe.json, got {str(folder)!r} without one") from None
        except (ValueError, RecursionError) as error:
            raise BadArgumentsError(f"{path} must be JSON: {error}") from None
        if not isinstance(form, dict):
            raise BadArgumentsError(f"{path} must hold a recipe, got {type(form).__name__}")
        form = cast("dict[str, Any]", form)
        return cls(folder, Recipe.from_dict(form))

    def build_trainer(self, device: torch.device | str | None = None) -> AdversarialTrainer:
        """Build the recipe's trainer, untrained, on its device or another one."""
        recipe = self.recipe
        return recipe.preset(
            device=device or recipe.device,
            seed=recipe.seed,
            replicas=recipe.replicas,
            log_every_steps=recipe.log_every_steps,
            check_every_steps=recipe.check_every_steps,
        )

    def train(self, *, progress: bool = True) -> AdversarialTrainer:
        """Train from the start in a new folder, and write everything a run holds.

        What is written is usable also when this is interrupted, or stopped by `stop`.

        Args:
            progress: show a progress bar.

        Raises:
            OutputExistsError: for a folder that has something in it; it is left alone.
            OutputError: for a folder that cannot be written.
            GankitError: for a recipe that cannot be built; there is no folder then.
        """
        trainer, batches = self._build()
        pictures = self._pictures(batches)
        trainer.ranks.first(self._make_folder)
        return self._go_on(trainer, batches, pictures, progress)

    def resume(self, *, progress: bool = True, override: bool = False) -> AdversarialTrainer:
        """Train on from the newest checkpoint that is whole, or from the start where there is none yet.

        `metrics.jsonl` is cut back to the checkpoint. All that follows is to the last bit what it would have been
        without the interruption, on one machine.

        Args:
            progress: show a progress bar.
            override: also where the checkpoint was made by another recipe than this run's; what does not fit the
                new one begins anew.

        Raises:
            RecipeDiffersError: for a checkpoint of another recipe, without `override`; more `steps` are no difference.
            CheckpointNotFoundError: where there are checkpoints and none is whole.
            CheckpointError: for a checkpoint that does not fit the recipe.
            OutputError: for a folder that cannot be written.
            GankitError: for a recipe that cannot be built.
        """
        ranks = Ranks.present()
        checkpoint = ranks.first(lambda: load_newest(self.checkpoints) if has_checkpoints(self.checkpoints) else None)
        differs = self._check_recipe(checkpoint, override)
        trainer, batches = self._build()
        pictures = self._pictures(batches)
        ranks.first(lambda: writable_folder(self.folder, "the run's folder"))
        if checkpoint is not None:
            if differs:
                _fit_to(checkpoint.state, trainer, differs)
            checkpoint.restore(trainer, batches)
        if ranks.is_first:
            self._write_json("recipe.json", self.recipe.to_dict())
            rows = [json.dumps(_finite(row)) + "\n" for row in trainer.history]
            self._write_whole("metrics.jsonl", "".join(rows))
        if pictures is not None:
            # those that were drawn in between, when somebody stopped the run, are left out of the animation
            steps = range(0, trainer.steps_done + 1, pictures.every)
            pictures.written = [path for path in map(pictures.file_at, steps) if path.exists()]
        return self._go_on(trainer, batches, pictures, progress, save_first=bool(differs))

    def _check_recipe(self, checkpoint: Checkpoint | None, override: bool) -> set[str]:
        if checkpoint is None or checkpoint.recipe is None:
            return set()
        saved = Recipe.from_dict(checkpoint.recipe)
        differences = saved.differences(self.recipe)
        if not override:
            check_same_recipe(differences, str(checkpoint.folder), decays=self.recipe.preset.learning_rate_decay)
        return set(differences)

    def _build(self) -> tuple[AdversarialTrainer, Iterable[Batch]]:
        trainer = self.trainer = self.build_trainer()
        if self._stopping:  # asked for while the trainer was built
            trainer.stop()
        recipe = self.recipe
        if trainer.ranks.size != recipe.ranks:
            raise BadValueError(
                f"the recipe's ranks must be as many processes as there are, {trainer.ranks.size}, got {recipe.ranks}"
            )
        return trainer, recipe.preset.batches(device=trainer.device, seed=recipe.seed, replicas=recipe.replicas)

    def _go_on(
        self,
        trainer: AdversarialTrainer,
        batches: Iterable[Batch],
        pictures: SampleGrids | PointClouds | None,
        progress: bool,
        *,
        save_first: bool = False,
    ) -> AdversarialTrainer:
        recipe, preset = self.recipe, self.recipe.preset
        if isinstance(pictures, PointClouds) and not self._can_plot("pictures of points are missing"):
            pictures = None
        trainer.callbacks.append(MetricsLog(self.metrics_file, every=recipe.log_every_steps))
        if pictures is not None:
            trainer.callbacks.append(pictures)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._told_when_full())
            checkpointer = None
            if recipe.checkpoint_every_steps:  # the last callback: what the others wrote belongs to its step
                checkpointer = stack.enter_context(
                    Checkpointer(self.checkpoints, every_steps=recipe.checkpoint_every_steps, recipe=recipe.to_dict())
                )
                must_roll_back = trainer.watch.policy == "rollback" and not has_checkpoints(self.checkpoints)
                if save_first or must_roll_back:
                    checkpointer.save(trainer)
            if progress and trainer.ranks.is_first:
                bar = ProgressBar(preset.steps, initial=trainer.steps_done)
                trainer.callbacks.append(stack.enter_context(bar))
            if checkpointer is not None:
                trainer.callbacks.append(checkpointer)
            try:
                if pictures is not None and trainer.steps_done % pictures.every == 0:
                    pictures(trainer)
                trainer.fit(batches, steps=preset.steps)
                if checkpointer is not None and checkpointer.saved_step != trainer.steps_done:
                    checkpointer.save(trainer)
            except DataError as error:
                # the batches have failed, and not the training; other ranks know nothing of it
                is_whole = trainer.is_between_steps and not isinstance(error, NonFiniteError)
                if checkpointer is not None and is_whole and trainer.ranks.size == 1:
                    checkpointer.save(trainer)
                raise
            finally:
                if trainer.ranks.is_first:
                    self._finish(trainer, pictures)
        if not trainer.ranks.is_first:
            return trainer
        self.evaluations = evaluate(trainer, batches, seed=recipe.seed)
        if self.evaluations:
            forms = [evaluation_form(one) for one in self.evaluations]
            self._write_json("evaluation.json", forms[0] if recipe.replicas is None else {"replicas": forms})
        return trainer

    def _finish(self, trainer: AdversarialTrainer, pictures: SampleGrids | PointClouds | None) -> None:
        self.save_weights(trainer)
        if pictures is not None:
            pictures(trainer)
            save_animation(pictures.written, self.folder / "samples.gif")
        self._draw_curves()

    def stop(self) -> None:
        """End `train` after the step it is in; for signal handlers."""
        self._stopping = True
        if self.trainer is not None:
            self.trainer.stop()

    def draw_samples(
        self, trainer: AdversarialTrainer, path: str | Path, *, count: int | None = None, seed: int = 0
    ) -> None:
        """Draw samples as `train` does: a grid of pictures, or points over real ones.

        Args:
            trainer: of this run, as `load_trainer` gives it.
            path: a `.png` file.
            count: how many; by default 64 pictures, or 2,000 points.
            seed: of the latents.

        Raises:
            ShapeError: for samples that are neither pictures nor points.
        """
        preset = self.recipe.preset
        points = None
        if preset.sample_shape == (2,):  # pictures need no data, which may have moved since
            points = _real_points(preset.batches(device=trainer.device), self.recipe.seed)
        if count is None:
            count = 64 if points is None else _POINTS
        samples = sample_replicas(trainer, count, self.conditions(count), seed)
        if points is None:
            save_grid(samples, path, sample_range=preset.sample_range or (0.0, 1.0))
        else:
            save_points(points, samples, path)

    def _pictures(self, batches: Iterable[Batch]) -> SampleGrids | PointClouds | None:
        recipe, folder = self.recipe, self.folder / "samples"
        every, seed = recipe.sample_every_steps, recipe.seed
        points = _real_points(batches, seed)
        if points is not None and recipe.preset.num_classes is None:
            return PointClouds(folder, points, every=every, count=_POINTS, seed=seed)
        if len(recipe.preset.sample_shape) != 3 or recipe.preset.sample_shape[0] not in (1, 3):
            return None
        sample_range = recipe.preset.sample_range or (0.0, 1.0)
        return SampleGrids(folder, every=every, sample_range=sample_range, condition=self.conditions(64), seed=seed)

    def _can_plot(self, what: str) -> bool:
        try:
            import matplotlib.figure  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError:
            warn(f"{what}: they need matplotlib: pip install 'gankit[plots]'", UserWarning)
            return False
        return True

    def _make_folder(self) -> None:
        if not writable_folder(self.folder, "the run's folder"):
            raise OutputExistsError(
                f"the run's folder must be new or empty, got {str(self.folder)!r} with files in it; name another one"
            )
        self._write_json("environment.json", environment(self.recipe.device))
        self._write_json("recipe.json", self.recipe.to_dict())

    def _draw_curves(self) -> None:
        try:
            save_curves(self.read_metrics(), self.folder / "curves.png")
        except MissingExtraError as error:
            warn(f"curves.png is missing: {error}", UserWarning)

    def conditions(self, count: int) -> torch.Tensor | None:
        """Return labels for `count` samples, class after class, or None for a model without classes."""
        classes = self.recipe.preset.num_classes
        return None if classes is None else torch.arange(count) % classes

    def read_metrics(self) -> list[dict[str, float]]:
        """Return the lines of `metrics.jsonl`."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text(encoding="utf-8").splitlines()]

    def save_weights(self, trainer: AdversarialTrainer) -> None:
        """Write the networks' weights as safetensors."""
        for name, network in _networks(trainer):
            state = {key: tensor.contiguous().clone() for key, tensor in network.state_dict().items()}
            file = self.folder / f"{name}.safetensors"
            with self._replacing(file) as temporary:
                save_file(state, temporary)

    def load_trainer(self, device: torch.device | str | None = None) -> AdversarialTrainer:
        """Build the recipe's trainer with the weights of the run, for sampling.

        Args:
            device: instead of the recipe's.

        Raises:
            DataNotFoundError: for a run without weights.
            BadArgumentsError: for weights that do not fit the recipe.
        """
        plans = _plans(self.recipe)
        names = ["generator", "discriminator"]
        if self.recipe.preset.averaging_decay is not None:
            names.append("averaged_generator")
        for name in names:
            file = self.folder / f"{name}.safetensors"
            if not file.is_file():
                raise DataNotFoundError(f"the run must hold {file.name}, got {str(self.folder)!r} without it")
            with _told(f"{file} must hold the recipe's {name}"):
                _check_weights(file, plans[name == "discriminator"], self.recipe.replicas)
        with _told(f"{self.folder / 'recipe.json'} must describe a model that can be built"):
            trainer = self.build_trainer(device)
        for name, network in _networks(trainer):
            file = self.folder / f"{name}.safetensors"
            with _told(f"{file} must hold the recipe's {name}"):
                network.load_state_dict(load_file(file, device=str(trainer.device)))
        return trainer

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self._write_whole(name, json.dumps(content, indent=2) + "\n")

    def _write_whole(self, name: str, content: str) -> None:
        with self._replacing(self.folder / name) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _replacing(self, file: Path) -> Generator[Path]:
        """Give a name to write to, and put what was written in the place of `file` once it is whole."""
        temporary = file.with_name(f".{file.name}.unfinished")
        try:
            yield temporary
            temporary.replace(file)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"the run's folder must be writable, got {str(file)!r}: {reason}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told_when_full(self) -> Generator[None]:
        """Say in one sentence that the disk is full, whoever meets it."""
        try:
            yield
        except OSError as error:
            if isinstance(error, GankitError) or error.errno not in _FULL:
                raise
            raise OutputError(
                f"the run's folder must be writable, got {str(self.folder)!r}: {error.strerror}"
            ) from error


def check_same_recipe(differences: Mapping[str, tuple[Any, Any]], where: str, *, decays: bool = False) -> None:
    """Refuse to continue by another recipe; more steps are no difference.

    Args:
        differences: as `Recipe.differences` returned them.
        where: whose recipe it is.
        decays: whether the learning rates depend on the steps, so that more of them are a difference.

    Raises:
        RecipeDiffersError: which names every difference.

    Example:
        >>> check_same_recipe({"steps": (100, 200)}, "run")
        >>> check_same_recipe({"seed": (0, 1)}, "run")
        Traceback (most recent call last):
        gankit.errors.RecipeDiffersError: what is continued must have the recipe of 'run', got seed 1 instead of 0; \
leave it out, or add --override to change the recipe
    """
    refused = {
        name: (own, given)
        for name, (own, given) in differences.items()
        if name not in ("checkpoint_every_steps", "check_every_steps") and (name != "steps" or decays or given < own)
    }
    if refused:
        told = ", ".join(f"{n} {_shown(given)} instead of {_shown(own)}" for n, (own, given) in refused.items())
        raise RecipeDiffersError(
            f"what is continued must have the recipe of {where!r}, got {told}; leave it out, or add --override to "
            "change the recipe"
        )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        form = cast("dict[str, Any]", value)
        return str(form["name"]) if form.keys() == {"name"} else json.dumps(form)
    return json.dumps(value) if isinstance(value, list) else str(value)


def _finite(row: Mapping[str, float]) -> dict[str, float | None]:
    """A line of metrics, as `MetricsLog` writes it."""
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


def _fit_to(state: dict[str, Any], trainer: AdversarialTrainer, differs: Iterable[str]) -> None:
    """Put what the trainer begins with in the place of what another recipe left, where the two differ."""
    saved, own = state["trainer"], trainer.state_dict()
    for name in ("generator_optimizer", "discriminator_optimizer"):
        if name in differs:  # the new numbers; the old moments, where the optimizer has them too
            moments: dict[Any, Any] = saved[name]["state"] if _same_keys(saved[name], own[name]) else {}
            saved[name] = {"state": moments, "param_groups": own[name]["param_groups"]}
    if (saved["average"] is None) != (own["average"] is None):
        fresh = own["average"] and {"network": saved["generator"], "updates_done": 0}
        saved["average"] = fresh
    changed = {"loss", "regularizers"} & set(differs)
    saved["parts"] = {
        name: part if changed or name not in saved["parts"] else saved["parts"][name]
        for name, part in own["parts"].items()
    }
    if "ranks" in differs:
        state["other_ranks"] = [{"random": own["random"], "data": None}] * (trainer.ranks.size - 1)
    if {"data", "batch_size", "seed", "replicas", "num_classes", "ranks"} & set(differs):
        state["data"] = None
        state["other_ranks"] = [one | {"data": None} for one in state["other_ranks"]]


def _same_keys(saved: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    groups = ([set(group) - {"initial_lr"} for group in one["param_groups"]] for one in (saved, own))
    first, second = groups
    return first == second


def evaluate(
    trainer: AdversarialTrainer, batches: Iterable[Batch], *, samples: int = 2500, seed: int = 0
) -> list[ModeCoverage]:
    """Return which modes of the data each trained generator found; none for data whose modes are not known.

    Args:
        trainer: its averaged generator is looked at, or the generator where there is no average.
        batches: what `Preset.batches` returned.
        samples: how many are generated; 2,500 as in Lin et al. 2018.
        seed: of the latents; of replica i, `seed + i`.

    Returns:
        One coverage, or one of each replica.

    Example:
        >>> from gankit.presets import ring
        >>> batches = ring.batches(device="cpu")
        >>> [one.modes for one in evaluate(ring(device="cpu").fit(batches, steps=2), batches)]
        [8]
    """
    mixture = batches.sampler if isinstance(batches, SampledBatches) else None
    if not isinstance(mixture, Mixture):
        return []
    generated = trainer.sample(samples, seed=stream_seed(seed, "sampling"))
    each = [generated] if trainer.replicas is None else generated
    return [mode_coverage(one, mixture.modes, mixture.standard_deviation) for one in each]


def evaluation_form(coverage: ModeCoverage) -> dict[str, Any]:
    """Return a coverage in plain containers that JSON knows; a value that is not finite becomes None.

    Example:
        >>> evaluation_form(ModeCoverage(0, 8, 0.0, math.nan, 2500))["reverse_kl"]
    """
    form = dataclasses.asdict(coverage)
    return {name: value if math.isfinite(value) else None for name, value in form.items()}


def _real_points(batches: Iterable[Batch], seed: int) -> torch.Tensor | None:
    """Return real samples in the plane, without touching the stream of batches; None where there are none."""
    if isinstance(batches, SampledBatches) and batches.sampler.sample_shape == (2,):
        random = torch.Generator(batches.device).manual_seed(seed)
        return batches.sampler.sample(_POINTS, generator=random, device=batches.device)
    if isinstance(batches, TensorBatches) and batches.samples.shape[1:] == (2,):
        return batches.samples[:_POINTS]
    return None


def _networks(trainer: AdversarialTrainer) -> Iterator[tuple[str, torch.nn.Module]]:
    yield "generator", trainer.generator
    yield "discriminator", trainer.discriminator
    if trainer.averaged_generator is not None:
        yield "averaged_generator", trainer.averaged_generator


def is_new(folder: Path) -> bool:
    """Tell whether a folder is not there, or empty.

    Example:
        >>> is_new(Path("nowhere"))
        True
    """
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def writable_folder(folder: Path, what: str) -> bool:
    """Make a folder where there is none, and tell whether it is empty.

    Args:
        folder: where it is, or will be.
        what: it is, for the message.

    Raises:
        OutputError: for a folder that cannot be written.

    Example:
        >>> writable_folder(Path("new"), "the run's folder")
        True
        >>> _ = Path("new/file").write_text("")
        >>> writable_folder(Path("new"), "the run's folder")
        False
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
        if is_empty:
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise OutputError(f"{what} must be writable, got {str(folder)!r}: {error.strerror}") from error
    return is_empty


def environment(device: str | None) -> dict[str, Any]:
    """Return the versions and the hardware that a figure depends on.

    Example:
        >>> environment("cpu")["device"]
        'cpu'
    """
    place = resolve_device(device)
    hardware = torch.cuda.get_device_name(place) if place.type == "cuda" else platform.processor() or platform.machine()
    return {
        "gankit": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": str(place),
        "hardware": hardware,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": Ranks.present().size,
    }


# --- weights for other people ----------------------------------------------------------------------------


def load_generator(
    folder: str | Path, *, device: torch.device | str = "cpu", replica: int | None = None
) -> torch.nn.Module:
    """Rebuild the generator of a finished run, ready to use anywhere; `gankit.load`.

    It reads two files, `recipe.json` and `averaged_generator.safetensors` (or `generator.safetensors`, without an
    average), and runs nothing from them: the recipe names registered parts, safetensors are numbers. What the weights
    must look like is known, and held against the file, before memory is taken for them.

    Args:
        folder: of the run.
        device: where the generator goes.
        replica: which one, of a run with replicas; by default the first.

    Returns:
        The generator, in eval mode, its weights requiring no gradient.

    Raises:
        DataNotFoundError: for a folder without recipe or weights.
        BadArgumentsError: for files that do not fit each other, or hold something else.
        BadValueError: for a replica that the run has not.

    Example:
        >>> from gankit.presets import ring
        >>> _ = Run("run", Recipe(preset=ring.replace(steps=2), device="cpu")).train(progress=False)
        >>> load_generator("run")(torch.randn(5, 258)).shape
        torch.Size([5, 2])
    """
    recipe = Run.open(folder).recipe
    if replica is not None and not 0 <= replica < (recipe.replicas or 0):
        raise BadValueError(f"replica must be one of the run's {recipe.replicas or 'none'}, got {replica}")
    names = ("averaged_generator.safetensors", "generator.safetensors")
    file = next((path for path in (Path(folder) / name for name in names) if path.is_file()), None)
    if file is None:
        raise DataNotFoundError(f"the run must hold generator.safetensors, got {str(folder)!r} without it")
    with _told(f"{file} must hold the recipe's generator"):
        plan, _ = _plans(recipe)
        _check_weights(file, plan, recipe.replicas)
        generator, _ = _build(recipe)
        state = load_file(file)
        if recipe.replicas is not None:
            state = {name: tensor[replica or 0] for name, tensor in state.items()}
        generator.load_state_dict(state)
    return generator.to(device).eval().requires_grad_(False)


def _build(recipe: Recipe) -> tuple[torch.nn.Module, torch.nn.Module]:
    chosen = {field.name: getattr(recipe.preset, field.name) for field in dataclasses.fields(recipe.preset)}
    return build_networks(chosen, LATENTS.build(chosen["latent"]), recipe.seed)


def _plans(recipe: Recipe) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return a recipe's generator and discriminator, which take no memory."""
    with _told("a recipe must describe networks that can be built"), torch.device("meta"):
        return _build(recipe)


def _check_weights(file: Path, plan: torch.nn.Module, replicas: int | None) -> None:
    """Hold a file's names, shapes and types against a network without memory."""
    leading = [] if replicas is None else [replicas]
    wanted = {name: (_TYPES.get(one.dtype), [*leading, *one.shape]) for name, one in plan.state_dict().items()}
    _check_header(file, most_bytes=_MOST_HEADER_BYTES + 1024 * len(wanted))
    opened: Any = safe_open(file, framework="pt")
    with opened as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
        found = {name: (one.get_dtype(), one.get_shape()) for name, one in slices.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            kinds = [
                None if one is None else f"{one[0]} {tuple(one[1])}" for one in (wanted.get(name), found.get(name))
            ]
            raise SafetensorError(f"{name[:100]} must have the type and shape {kinds[0]}, got {kinds[1]}")


def _check_header(file: Path, most_bytes: int) -> None:
    """Refuse a table of names that is larger than the network's can be, or that has a name twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise SafetensorError("a name stands twice in its header")
        return table

    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > most_bytes:
            raise SafetensorError(f"its header must have at most {most_bytes} bytes, got {size}")
        json.loads(opened.read(size) or b"{}", object_pairs_hook=once)  # the rest is safetensors' to say


@contextlib.contextmanager
def _told(what: str) -> Generator[None]:
    """Tell in one sentence that a file, which anybody may have written, does not hold what it must."""
    try:
        yield
    except GankitError:
        raise
    except Exception as error:  # a crafted file may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadArgumentsError(f"{what}: {reason[:500]}") from error
