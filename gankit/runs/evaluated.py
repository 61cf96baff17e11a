"""The evaluation of a run that is there, by the weights in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gankit.errors import BadArgumentsError
from gankit.files import write_text
from gankit.metrics import Evaluation
from gankit.runs.evaluation import evaluator_for
from gankit.runs.folder import locked_folder
from gankit.runs.resuming import last_logged_step
from gankit.runs.run import Run
from gankit.training import Ranks, score_generator


def evaluate_run(
    folder: str | Path,
    *,
    root: str | Path | None = None,
    device: torch.device | str | None = None,
    seed: int | None = None,
) -> Evaluation:
    """Score samples of the weights of a run, raw and averaged, and write `evaluation.json` into its folder.

    Args:
        folder: The folder of the run.
        root: The folder of the data that samples are compared with, where they have one. None takes that of the run.
        device: The device. None takes that of the run, or the CPU if this machine lacks it.
        seed: The seed of the latents. None takes that of the run, as at the end of its training.

    Raises:
        DataNotFoundError: For a folder without a recipe or without weights.
        BadArgumentsError: For a run on data that nothing scores, or weights that do not fit the recipe.
        OutputError: For a folder that cannot be written to, or that another process writes into.

    Example:
        >>> from gankit.presets import ring
        >>> from gankit.runs import Recipe
        >>> _ = Run("run", Recipe(preset=ring.replace(steps=2), device="cpu")).train(progress=False)
        >>> evaluate_run("run").mean("captured_modes").real
        8.0
    """
    run = Run.open(folder)
    preset = run.recipe.preset
    evaluator = evaluator_for(preset, root=root)
    if evaluator is None:
        raise BadArgumentsError(f"evaluate is for runs on data that gankit can score, got {str(preset.data)!r}")
    trainer = run.load_trainer(device)
    trainer.state.steps_done = last_logged_step(run.folder) or preset.steps
    labels, own_seed = preset.labels(evaluator.samples), run.recipe.seed
    with locked_folder(run.folder, Ranks()):
        found = score_generator(trainer, evaluator, condition=labels, seed=own_seed if seed is None else seed)
        text = json.dumps(found.to_dict(), indent=2) + "\n"
        write_text(run.folder / "evaluation.json", text, "the run's folder")
    return found
