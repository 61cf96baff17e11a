"""What a run is continued from, and whether it may be: everything that is checked before its folder is changed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from gankit.errors import CheckpointNotFoundError, OutputError, RecipeDiffersError
from gankit.runs.recipe import MAY_CHANGE, Recipe, check_same_recipe, read_recipe
from gankit.training import Checkpoint
from gankit.training.metrics_file import read_metrics


def check_inside(*folders: Path) -> None:
    """Check that what is written stays in the run's folder, which may come from somebody else.

    Raises:
        OutputError: If one of these folders of the run is a link.

    Example:
        >>> check_inside(Path("run/checkpoints"), Path("run/samples"))
    """
    for folder in folders:
        if folder.is_symlink():
            raise OutputError(f"{folder} must be a folder inside the run's, got a link to {str(folder.readlink())!r}")


def changed_fields(folder: Path, recipe: Recipe, checkpoint: Checkpoint | None, *, override: bool) -> set[str]:
    """Return the fields of a recipe that differ from those that the run was made with so far.

    Args:
        folder: The folder of the run.
        recipe: The recipe with which the run is to be continued.
        checkpoint: The checkpoint that it continues from. If it is None or holds no recipe, the recipe in the folder
            counts, if there is one.
        override: Whether the recipe may differ.

    Raises:
        RecipeDiffersError: For another recipe without `override`, or for fewer steps than the checkpoint has.

    Example:
        >>> from gankit.presets import ring
        >>> changed_fields(Path("nowhere"), Recipe(preset=ring), None, override=False)
        set()
    """
    steps = recipe.preset.steps
    if checkpoint is not None and steps < checkpoint.step:
        raise RecipeDiffersError(f"steps must be {checkpoint.step} or more, which are done, got {steps}")
    if checkpoint is not None and checkpoint.recipe is not None:
        saved = Recipe.from_dict(checkpoint.recipe)
    elif checkpoint is None and (folder / "recipe.json").exists():
        saved = read_recipe(folder)
    else:
        return set()
    differences = saved.differences(recipe)
    if not override:
        check_same_recipe(differences, str(folder), decays=recipe.preset.learning_rate_decay)
    return set(differences)


def last_logged_step(folder: Path) -> int:
    """Return the step of the last line of a run's metrics, or 0 if there is none.

    Example:
        >>> last_logged_step(Path("nowhere"))
        0
    """
    return max((int(row["step"]) for row in read_metrics(folder / "metrics.jsonl")), default=0)


def is_finished(folder: Path, changed: Collection[str]) -> bool:
    """Return whether a run without checkpoints has finished. If False, it begins with its recipe.

    Args:
        folder: The folder of the run.
        changed: The fields of the recipe that are to change.

    Raises:
        CheckpointNotFoundError: For a run that could only begin again, over the weights that it has, which cannot be
            what was wanted: one that has finished, if its recipe is to change, and one that writes no checkpoints.

    Example:
        >>> is_finished(Path("nowhere"), set())
        False
    """
    if not (folder / "generator.safetensors").exists() or not (folder / "recipe.json").exists():
        return False
    saved = read_recipe(folder)
    steps = saved.preset.steps
    last_step = last_logged_step(folder)
    # the last step is always logged; earlier versions may only have drawn it
    has_finished = last_step >= steps or (folder / "samples" / f"step_{steps:07d}.png").exists()
    if has_finished and not set(changed) - MAY_CHANGE:
        return True
    if has_finished or not saved.checkpoint_every_steps:
        what = f"which has finished its {steps} steps" if has_finished else "which was interrupted"
        raise CheckpointNotFoundError(
            f"a run that is continued must have a checkpoint, got {str(folder)!r}, {what}, without one; train again in "
            "another folder, with checkpoint_every_steps above 0"
        )
    return False
