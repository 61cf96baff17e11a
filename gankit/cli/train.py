"""`gankit train`."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gankit.cli.arguments import (
    add_flags,
    expanded,
    given,
    named_preset,
    named_regularizers,
    output_folder,
    spec,
)
from gankit.cli.interrupts import stop_on_signal
from gankit.data import DATASETS
from gankit.errors import BadArgumentsError, BadValueError, DataError, NonFiniteError, RecipeDiffersError
from gankit.files import is_new
from gankit.losses import LossSchedule
from gankit.presets import PRESETS, Preset
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import AdversarialTrainer, Launch, Options, Ranks
from gankit.training.saving.folder import has_checkpoints

OPTION_FLAGS = tuple(field.name for field in dataclasses.fields(Options))
"""The options of a training step: each of them is a flag."""

PART_FLAGS = ("generator", "discriminator", "latent", "generator_optimizer", "discriminator_optimizer")
DATA_FLAGS = ("data", "sample_shape", "batch_size", "num_classes")
COURSE_FLAGS = ("steps", "learning_rate_decay", "output_bias_from_data")
PRESET_FLAGS = (*PART_FLAGS, *DATA_FLAGS, *COURSE_FLAGS)
"""The other fields of a preset that are flags of the same name. `--loss` and `--regularizer` can be repeated."""

RECIPE_FLAGS = tuple(field.name for field in dataclasses.fields(Recipe) if field.name not in ("preset", "ranks"))
"""The fields of a recipe that are flags. The launcher decides the number of ranks."""

_OUTPUT_FLAGS = ("log_every_steps", "sample_every_steps", "evaluate_every_steps", "keep_best", "checkpoint_every_steps")

_BETTER = {"vanilla_mnist": "vanilla_mnist_tuned"}
"""For a preset another one of the same networks that gives better samples."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `gankit train` to its parser."""
    parser.description = (
        "Train a preset and write a run: its recipe, metrics, pictures of samples and their animation, curves, "
        "weights and checkpoints. What no flag changes is as in the preset. Ctrl-C ends the run cleanly after the "
        "step it is in; --resume continues it."
    )
    parser.add_argument("preset", metavar="PRESET", nargs="?", help="A name from `gankit list presets`.")
    parts = parser.add_argument_group("parts, by name and arguments: mlp:hidden_dim=256")
    add_flags(parts, Preset, PART_FLAGS)
    parts.add_argument(
        "--loss",
        type=_stage,
        metavar="NAME[@STEP]",
        action="append",
        help="The name of the loss. If it is repeated with @STEP, that loss takes over at the given step.",
    )
    parts.add_argument(
        "--regularizer",
        type=spec,
        metavar="NAME",
        action="append",
        help="The name of a penalty or constraint, in place of the preset's, or none. It can be repeated.",
    )
    data = parser.add_argument_group("data")
    add_flags(data, Preset, DATA_FLAGS)
    data.add_argument("--root", metavar="DIR", help="The folder of the data set, if it has one.")
    course = parser.add_argument_group("course of the training")
    add_flags(course, Preset, COURSE_FLAGS)
    add_flags(course, Recipe, (name for name in RECIPE_FLAGS if name not in _OUTPUT_FLAGS), with_defaults=True)
    step = parser.add_argument_group("training step")
    add_flags(step, Options, OPTION_FLAGS)
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="The folder of the run. By default, runs/PRESET/TIME.")
    add_flags(output, Recipe, _OUTPUT_FLAGS, with_defaults=True)
    output.add_argument("--no-progress", dest="progress", action="store_false", help="Show no progress bar.")
    resuming = parser.add_argument_group("resuming")
    resuming.add_argument(
        "--resume", metavar="RUN", help="Continue a run that was interrupted, or a finished one with more --steps."
    )
    resuming.add_argument(
        "--override", action="store_true", help="With --resume: let flags change what the recipe of the run says."
    )


def run(options: argparse.Namespace) -> int:
    """Train as the options ask for."""
    launch = Launch()
    with launch.joined(getattr(options, "device", None)) as ranks:
        return _train(options, launch, ranks)


def _train(options: argparse.Namespace, launch: Launch, ranks: Ranks) -> int:
    run = _new_run(options, launch) if options.resume is None else _resumed_run(options, ranks)
    run.recipe = dataclasses.replace(run.recipe, ranks=ranks.size)
    must_resume = options.resume is not None
    # a launcher that restarts its processes repeats the same command, so the run may have begun already
    if not must_resume and launch.is_there:
        was_new = launch.note("folder is new", "yes" if is_new(run.folder) else "no") == "yes"
        must_resume = was_new and launch.restarts > 0
    if ranks.size > 1 and ranks.is_first:
        size = run.recipe.preset.batch_size
        print(f"{ranks.size} ranks with batches of {size} each, {ranks.size * size} in all", file=sys.stderr)
    try:
        with stop_on_signal(run, is_quiet=not ranks.is_first) as received:
            if must_resume:
                trainer = run.resume(progress=options.progress, override=options.override)
            else:
                trainer = run.train(progress=options.progress)
    except (KeyboardInterrupt, DataError) as error:
        if has_checkpoints(run.checkpoints) and not isinstance(error, NonFiniteError) and ranks.is_first:
            print(f"\ncontinue with\n  {_resume_command(run, launch)}", file=sys.stderr)
        raise
    if ranks.is_first:
        _report(run, trainer)
        if trainer.steps_done < run.recipe.preset.steps and run.recipe.checkpoint_every_steps:
            print(f"continue {_resume_command(run, launch)}")
    return 128 + received[0] if received else 0


def _new_run(options: argparse.Namespace, launch: Launch) -> Run:
    if options.preset is None:
        raise BadArgumentsError("train needs a PRESET, or --resume RUN, got neither")
    if options.override:
        raise BadArgumentsError("--override goes with --resume RUN, got it without")
    preset = named_preset(options.preset)
    preset = preset.replace(**_preset_changes(preset, options))
    recipe = Recipe(preset=preset, **given(options, RECIPE_FLAGS))
    return Run(launch.note("folder", str(output_folder(options, preset.name))), recipe)


def _resumed_run(options: argparse.Namespace, ranks: Ranks) -> Run:
    run = ranks.first(lambda: Run.open(expanded(options.resume)))
    if options.out is not None and expanded(options.out).resolve() != run.folder.resolve():
        raise BadArgumentsError(f"--out must be left out beside --resume {options.resume}, got {options.out!r}")
    recipe = run.recipe
    if options.preset not in (None, recipe.preset.name):
        raise RecipeDiffersError(
            f"{options.resume!r} is a run of the preset {recipe.preset.name!r}, got {options.preset!r}; leave it out"
        )
    preset = recipe.preset.replace(**_preset_changes(recipe.preset, options))
    return Run(run.folder, dataclasses.replace(recipe, preset=preset, **given(options, RECIPE_FLAGS)))


def _resume_command(run: Run, launch: Launch) -> str:
    return shlex.join([*launch.command, "train", "--resume", _as_argument(run.folder)])


def _as_argument(folder: Path) -> str:
    """Return the name of a folder such that it is no option."""
    return f"./{folder}" if str(folder).startswith("-") else str(folder)


def _preset_changes(preset: Preset, options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the preset that the command line changes."""
    changes = given(options, (*PRESET_FLAGS, *OPTION_FLAGS))
    if options.loss:
        changes["loss"] = _loss(options.loss)
    if options.regularizer:
        changes["regularizers"] = named_regularizers(options.regularizer)
    data = changes.get("data", Spec.of(preset.data))
    if options.root is not None:
        if not DATASETS.accepts(data, "root"):
            raise BadArgumentsError(f"--root is for a data set that has one, got it with {data.name!r}")
        data = data.with_defaults(root=options.root)
    changes["data"] = data
    return changes


def _stage(text: str) -> tuple[int, Spec]:
    """Read a loss, and the step at which it takes over where `@STEP` follows."""
    loss, at, step = text.rpartition("@")
    if at and step.isdigit():
        return int(step), spec(loss)
    return 0, spec(text)


def _loss(stages: Sequence[tuple[int, Spec]]) -> Spec | LossSchedule:
    if len({step for step, _ in stages}) < len(stages):
        raise BadValueError(
            "--loss given more than once needs the step at which each takes over: --loss non_saturating "
            "--loss minimax@2000"
        )
    return stages[0][1] if len(stages) == 1 and stages[0][0] == 0 else LossSchedule(dict(stages))


def _report(run: Run, trainer: AdversarialTrainer) -> None:
    pictures = sorted((run.folder / "samples").glob("*.png"))
    print(f"{trainer.steps_done} of {run.recipe.preset.steps} steps done")
    if run.evaluations:
        print(run.evaluations[-1].table())
    if trainer.replicas is not None and trainer.metrics:
        print(_metrics_over_replicas(trainer))
    print(f"samples  {pictures[-1]}" if pictures else "no samples")
    print(f"weights  {run.folder / 'generator.safetensors'}")
    if run.recipe.keep_best is not None:
        print(f"best     {run.folder / 'best'}")
    are_points = run.recipe.preset.sample_shape == (2,)
    how = "--out samples.png" if are_points else "--count 64 --out grid.png"
    print(f"more     gankit sample {shlex.quote(_as_argument(run.folder))} {how}")
    better = _BETTER.get(run.recipe.preset.name)
    if better in PRESETS:
        print(f"better   gankit train {better}")


def _metrics_over_replicas(trainer: AdversarialTrainer) -> str:
    """Return the newest metrics of all replicas: their mean and standard deviation over the seeds."""
    metrics = trainer.read_metrics()
    names = [name for name in metrics if f"{name}/sd" in metrics]
    width = max(map(len, names), default=0)
    rows = [f"  {name:{width}}  {metrics[name]:8.4f} ± {metrics[f'{name}/sd']:.4f}" for name in names]
    return "\n".join([f"mean ± standard deviation over {trainer.replicas} replicas:", *rows])
