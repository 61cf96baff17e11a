"""`Run`: one folder on disk with the recipe, metrics, pictures and weights of a training.

```
recipe.json             everything that is needed to rebuild the model
environment.json        versions and hardware
metrics.jsonl           one line of metrics every log_every_steps
samples/                pictures of samples from the same latents, every sample_every_steps
samples.gif             an animation of these pictures
curves.png              losses, D(x) and D(G(z)) over the steps
checkpoints/            from which an interrupted run is resumed
evaluation.json         if there is an evaluator for the data: the scores of the samples, beside those of real ones
evaluations.jsonl       one line of scores every evaluate_every_steps
best/                   a run with the weights of the best step by the metric keep_best
generator.safetensors, averaged_generator.safetensors (with averaging), discriminator.safetensors
```
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from gankit.errors import (
    BadValueError,
    DataError,
    DataNotFoundError,
    GankitWarning,
    MissingExtraError,
    finished_by,
    warn,
)
from gankit.files import write_text
from gankit.metrics import Evaluation
from gankit.pictures import save_animation, save_curves
from gankit.protocols import Batch
from gankit.runs.best import BestRun, networks_of
from gankit.runs.class_names import with_class_names
from gankit.runs.evaluation import evaluation_of
from gankit.runs.folder import environment, locked_folder, refused_with
from gankit.runs.pictures import can_plot, pictures_of
from gankit.runs.recipe import Recipe, read_recipe
from gankit.runs.resuming import changed_fields, check_inside, is_finished
from gankit.runs.samples import Request, make_samples, recipe_for_sampling, write_samples
from gankit.runs.weights import networks_without_memory, read_weights, write_weights
from gankit.training import (
    AdversarialTrainer,
    Checkpointer,
    Evaluate,
    MetricsLog,
    PointClouds,
    ProgressBar,
    Ranks,
    SampleGrids,
    load_newest,
)
from gankit.training.metrics_file import read_metrics
from gankit.training.saving.folder import has_checkpoints


class Run:
    """A training run in a folder.

    Args:
        folder: The folder. `Run.open` reads the recipe of an existing one.
        recipe: The recipe of the run.

    Attributes:
        folder: The folder.
        recipe: The recipe of the run.
        trainer: The trainer, or None before `train` and `resume`.
        evaluations: The evaluations of the run, after `train` and `resume`; the last one is that of the last step.
            Empty for data that nothing scores.

    Example:
        >>> from gankit.presets import vanilla_mnist
        >>> tiny = vanilla_mnist.replace(steps=2, batch_size=8)
        >>> trainer = Run("run", Recipe(preset=tiny, device="cpu")).train(progress=False)
        >>> Run.open("run").load_trainer().sample(4).shape
        torch.Size([4, 1, 28, 28])
    """

    def __init__(self, folder: str | Path, recipe: Recipe) -> None:
        self.folder: Path = Path(folder)
        self.recipe: Recipe = recipe
        self.trainer: AdversarialTrainer | None = None
        self.evaluations: list[Evaluation] = []
        self._evaluate: Evaluate | None = None
        self._stopping = False

    @property
    def metrics_file(self) -> Path:
        """The path of `metrics.jsonl`."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The path of the folder `checkpoints`."""
        return self.folder / "checkpoints"

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Read the recipe of a run.

        Raises:
            DataNotFoundError: For a folder without a recipe.
            BadArgumentsError: For a recipe that cannot be read.
        """
        return cls(folder, read_recipe(folder))

    def build_trainer(self, device: torch.device | str | None = None) -> AdversarialTrainer:
        """Build the untrained trainer of the recipe, on the given device or else on that of the recipe."""
        recipe = self.recipe
        return recipe.preset(
            device=device or recipe.device,
            seed=recipe.seed,
            replicas=recipe.replicas,
            log_every_steps=recipe.log_every_steps,
            check_every_steps=recipe.check_every_steps,
        )

    def train(self, *, progress: bool = True) -> AdversarialTrainer:
        """Train from the start in a new folder, and write all files of a run.

        The files can be used even if training is interrupted, or ended early by `stop`.

        Args:
            progress: Whether to show a progress bar.

        Raises:
            OutputExistsError: For a folder that is not empty. Nothing in it is changed.
            OutputError: For a folder that cannot be written to, or that another process writes into.
            GankitError: For a recipe that cannot be built. No folder is made.
        """
        self.recipe = with_class_names(self.recipe)
        trainer, batches = self._build()
        log, pictures = self._metrics_log(), self._pictures(batches)
        if (evaluate := self._evaluate) is not None and self.recipe.evaluate_every_steps:
            trainer.ranks.first(lambda: evaluate.evaluate_untrained(trainer))
        with locked_folder(self.folder, trainer.ranks, must_be_new=True):
            return self._train_and_write(trainer, batches, log, pictures, progress, begin=self._describe)

    def resume(self, *, progress: bool = True, override: bool = False) -> AdversarialTrainer:
        """Continue from the newest undamaged checkpoint, or from the start if there is no checkpoint yet.

        `metrics.jsonl` is cut back to the checkpoint. On one machine, everything that follows is to the last bit what
        it would have been without the interruption.

        Args:
            progress: Whether to show a progress bar.
            override: Whether to accept a checkpoint of another recipe. What does not fit this run's recipe then starts
                afresh.

        Raises:
            RecipeDiffersError: For a checkpoint of another recipe, without `override`. More `steps` are no difference.
            CheckpointNotFoundError: If there are checkpoints, but all of them are damaged.
            CheckpointError: For a checkpoint that does not fit the recipe.
            OutputError: For a folder that cannot be written to, or that another process writes into.
            GankitError: For a recipe that cannot be built.
        """
        ranks = Ranks.present()
        with locked_folder(self.folder, ranks):
            return self._resume(ranks, progress, override)

    def _resume(self, ranks: Ranks, progress: bool, override: bool) -> AdversarialTrainer:
        ranks.first(lambda: check_inside(self.checkpoints, self.folder / "samples", self.folder / "best"))
        checkpoint = ranks.first(lambda: load_newest(self.checkpoints) if has_checkpoints(self.checkpoints) else None)
        self.recipe = with_class_names(self.recipe, self.folder)
        differs = ranks.first(lambda: changed_fields(self.folder, self.recipe, checkpoint, override=override))
        if checkpoint is None and ranks.first(lambda: is_finished(self.folder, differs)):
            return self._load_finished(ranks)
        trainer, batches = self._build()
        log, pictures = self._metrics_log(), self._pictures(batches)
        if checkpoint is not None:
            if differs:
                checkpoint = checkpoint.adapted_to(trainer, differs)
            checkpoint.restore(trainer, batches)

        def begin() -> None:
            log.resume(trainer)
            if pictures is not None:
                pictures.resume(trainer)
            if self._evaluate is not None:
                self._evaluate.resume(trainer)
            self._describe()

        return self._train_and_write(
            trainer, batches, log, pictures, progress, begin=begin, save_first=checkpoint is not None and bool(differs)
        )

    def _build(self) -> tuple[AdversarialTrainer, Iterable[Batch]]:
        trainer = self.trainer = self.build_trainer()
        if self._stopping:  # `stop` was called while the trainer was built
            trainer.stop()
        recipe = self.recipe
        if trainer.ranks.size != recipe.ranks:
            raise BadValueError(
                f"the recipe's ranks must be the number of processes, {trainer.ranks.size}, got {recipe.ranks}"
            )
        batches = recipe.preset.batches(device=trainer.device, seed=recipe.seed, replicas=recipe.replicas)
        self._evaluate = self._evaluation(batches)
        if self._evaluate is not None and recipe.evaluate_every_steps:
            trainer.callbacks.append(self._evaluate)
            if recipe.keep_best is not None:
                trainer.callbacks.append(BestRun(self.folder / "best", recipe, self._evaluate))
        return trainer, batches

    def _train_and_write(
        self,
        trainer: AdversarialTrainer,
        batches: Iterable[Batch],
        log: MetricsLog,
        pictures: SampleGrids | PointClouds | None,
        progress: bool,
        *,
        begin: Callable[[], None],
        save_first: bool = False,
    ) -> AdversarialTrainer:
        """Train and write the run. `begin`, which rank 0 calls, writes what a run begins with."""
        recipe, preset = self.recipe, self.recipe.preset
        if isinstance(pictures, PointClouds) and not can_plot("pictures of points are missing"):
            pictures = None
        trainer.callbacks.append(log)
        if pictures is not None:
            trainer.callbacks.append(pictures)
        with contextlib.ExitStack() as stack:
            checkpointer = None
            if recipe.checkpoint_every_steps:  # added as the last callback, so that it saves what the others wrote
                checkpointer = stack.enter_context(
                    Checkpointer(
                        self.checkpoints,
                        every_steps=recipe.checkpoint_every_steps,
                        keep_best=None if recipe.keep_best is None else self._evaluate,
                        recipe=recipe.to_dict(),
                    )
                )
            trainer.ranks.first(begin)
            if checkpointer is not None:
                must_roll_back = trainer.watch.policy == "rollback" and not has_checkpoints(self.checkpoints)
                if save_first or must_roll_back:
                    checkpointer.save(trainer)
            if progress and trainer.ranks.is_first:
                bar = ProgressBar(preset.steps, initial=trainer.steps_done)
                trainer.callbacks.append(stack.enter_context(bar))
            if checkpointer is not None:
                trainer.callbacks.append(checkpointer)
            with finished_by(lambda: self._finish(trainer, pictures)):
                if pictures is not None and trainer.steps_done % pictures.every == 0:
                    pictures(trainer)
                trainer.fit(batches, steps=preset.steps)
                if checkpointer is not None and checkpointer.saved_step != trainer.steps_done:
                    checkpointer.save(trainer)
        if not trainer.ranks.is_first:
            return trainer
        self._evaluate_last(trainer)
        return trainer

    def _evaluate_last(self, trainer: AdversarialTrainer) -> None:
        if self._evaluate is None:
            return
        try:
            last = self._evaluate.evaluate(trainer)
        except DataError as error:  # such as test digits that are not there; the training is done and written
            warn(f"the samples are not scored: {error}", GankitWarning)
            return
        self.evaluations = [*(one for one in self._evaluate.history if one.step < last.step), last]
        self._write_json("evaluation.json", last.to_dict())

    def _finish(self, trainer: AdversarialTrainer, pictures: SampleGrids | PointClouds | None) -> None:
        if not trainer.ranks.is_first:
            return
        self.save_weights(trainer)
        if pictures is not None:
            pictures(trainer)
            save_animation(pictures.written, self.folder / "samples.gif", skip_damaged=True)
        self._draw_curves()

    def stop(self) -> None:
        """End `train` or `resume` after the current step; for signal handlers."""
        self._stopping = True
        if self.trainer is not None:
            self.trainer.stop()

    def draw_samples(
        self, trainer: AdversarialTrainer, path: str | Path, *, count: int | None = None, seed: int = 0
    ) -> None:
        """Draw samples as `train` does: a grid of pictures, or points.

        Points are drawn over real ones if no file has to be read for them: the recipe may be somebody else's.

        Args:
            trainer: The trainer of this run, as `load_trainer` returns it.
            path: The `.png` file to write.
            count: The number of samples. None draws 64 pictures or 2,000 points.
            seed: The seed of the latents.

        Raises:
            ShapeError: For samples that are neither pictures nor points.
        """
        request = Request(count=count, seed=seed)
        write_samples(self.recipe, make_samples(self.recipe, trainer, request), Path(path))

    def _metrics_log(self) -> MetricsLog:
        return MetricsLog(self.metrics_file, every=self.recipe.log_every_steps)

    def _pictures(self, batches: Iterable[Batch]) -> SampleGrids | PointClouds | None:
        return pictures_of(self.recipe, batches, self.folder / "samples")

    def _evaluation(self, batches: Iterable[Batch]) -> Evaluate | None:
        return evaluation_of(self.recipe, batches, self.folder)

    def _describe(self) -> None:
        if not (self.folder / "environment.json").exists():
            self._write_json("environment.json", environment(self.recipe.device))
        self._write_json("recipe.json", self.recipe.to_dict())

    def _load_finished(self, ranks: Ranks) -> AdversarialTrainer:
        """Return the trainer of a finished run without checkpoints, with the weights of the run."""
        steps = self.recipe.preset.steps
        if ranks.is_first:
            warn(f"{str(self.folder)!r} has finished its {steps} steps, so nothing is trained", GankitWarning)
        self.trainer = self.load_trainer() if ranks.is_first else self.build_trainer()
        self.trainer.state.steps_done = steps
        return self.trainer

    def _draw_curves(self) -> None:
        rows = self.read_metrics()
        if not rows:
            return
        try:
            save_curves(rows, self.folder / "curves.png")
        except MissingExtraError as error:
            warn(f"curves.png is missing: {error}", GankitWarning)

    def read_metrics(self) -> list[dict[str, float]]:
        """Return the lines of `metrics.jsonl`, or none if there is no such file."""
        return read_metrics(self.metrics_file)

    def save_weights(self, trainer: AdversarialTrainer) -> None:
        """Write the weights of all networks as safetensors, unless they are NaN or infinite; see `write_weights`."""
        write_weights(self.folder, dict(networks_of(trainer)), trainer.replicas)

    def load_trainer(self, device: torch.device | str | None = None) -> AdversarialTrainer:
        """Build the trainer of the recipe with the weights of the run, for sampling.

        Args:
            device: The device. None takes that of the recipe, or the CPU if this machine lacks it.

        Raises:
            DataNotFoundError: For a run without weights.
            BadArgumentsError: For weights that do not fit the recipe.
        """
        expected = networks_without_memory(self.recipe)
        names = ["generator", "discriminator"]
        if self.recipe.preset.averaging_decay is not None:
            names.append("averaged_generator")
        states: dict[str, dict[str, torch.Tensor]] = {}
        for name in names:
            file = self.folder / f"{name}.safetensors"
            if not file.is_file():
                raise DataNotFoundError(f"the run must hold {file.name}, got {str(self.folder)!r} without it")
            with refused_with(f"{file} must hold the recipe's {name}"):
                states[name] = read_weights(file, expected[name == "discriminator"], self.recipe.replicas)
        with refused_with(f"{self.folder / 'recipe.json'} must describe a model that can be built"):
            trainer = Run(self.folder, recipe_for_sampling(self.recipe, device)).build_trainer()
        for name, network in networks_of(trainer):
            with refused_with(f"{self.folder / f'{name}.safetensors'} must hold the recipe's {name}"):
                network.load_state_dict(states[name])
        return trainer

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        write_text(self.folder / name, json.dumps(content, indent=2) + "\n", "the run's folder")
