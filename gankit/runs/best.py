"""The best step of a run: a folder `best` in the run's, which is a run itself, to sample from and to evaluate."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from gankit.files import finite_or_none, make_folder, write_text
from gankit.runs.recipe import Recipe
from gankit.runs.weights import write_weights
from gankit.training import AdversarialTrainer, Evaluate


class BestRun:
    """A callback that writes the weights whenever `Evaluate`, which is called before it, has found a better step.

    The folder holds the recipe, the weights, the metrics and the evaluation of that step. Its recipe writes no
    checkpoints, so that nobody resumes it in place of the run.

    Args:
        folder: The folder to write, `best` in that of the run.
        recipe: The recipe of the run.
        evaluate: The callback that knows the best step.

    Attributes:
        every: That of `evaluate`.
    """

    def __init__(self, folder: Path, recipe: Recipe, evaluate: Evaluate) -> None:
        preset = recipe.preset
        if preset.on_non_finite == "rollback":  # which needs checkpoints
            preset = preset.replace(on_non_finite="raise")
        self.folder = folder
        self.every: int = evaluate.every
        self._recipe = dataclasses.replace(recipe, preset=preset, checkpoint_every_steps=0, keep_best=None)
        self._evaluate = evaluate

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Write the folder if the present step is the best one so far."""
        evaluate, what = self._evaluate, "the folder of the best step"
        if not trainer.ranks.is_first or evaluate.best_step != trainer.steps_done:
            return
        make_folder(self.folder, what)
        write_weights(self.folder, dict(networks_of(trainer)), trainer.replicas)
        for name, form in {
            "recipe.json": self._recipe.to_dict(),
            "evaluation.json": evaluate.evaluate(trainer).to_dict(),
        }.items():
            write_text(self.folder / name, json.dumps(form, indent=2) + "\n", what)
        metrics = json.dumps(finite_or_none(trainer.read_metrics()))
        write_text(self.folder / "metrics.jsonl", f"{metrics}\n", what)


def networks_of(trainer: AdversarialTrainer) -> Iterator[tuple[str, torch.nn.Module]]:
    """Return the networks of a trainer by the names of their files.

    Example:
        >>> from gankit.presets import ring
        >>> [name for name, _ in networks_of(ring(device="cpu"))]
        ['generator', 'discriminator', 'averaged_generator']
    """
    yield "generator", trainer.generator
    yield "discriminator", trainer.discriminator
    if trainer.averaged_generator is not None:
        yield "averaged_generator", trainer.averaged_generator
