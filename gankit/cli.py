"""The command `gankit`: train, sample, compare, list, show."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import shlex
import signal
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from typing_extensions import override

from gankit.architectures import DISCRIMINATORS, GENERATORS
from gankit.augmentations import AUGMENTATIONS
from gankit.blocks import BLOCKS
from gankit.compare import Comparison, Entry, Outcome, split_entries
from gankit.data import DATASETS
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DataError,
    GankitError,
    NonFiniteError,
    OutputExistsError,
    RecipeDiffersError,
    check_count,
)
from gankit.latents import LATENTS
from gankit.losses import LOSSES, LossSchedule
from gankit.optimizers import OPTIMIZERS
from gankit.presets import PRESETS, Preset
from gankit.registry import Registry, Spec
from gankit.regularizers import REGULARIZERS
from gankit.runs import Recipe, Run, check_same_recipe, is_new
from gankit.training import EXECUTIONS, ON_NON_FINITE, AdversarialTrainer, Launch, Ranks
from gankit.training.checkpoint import has_checkpoints
from gankit.version import __version__

REGISTRIES: dict[str, Registry[Any]] = {
    "augmentations": AUGMENTATIONS,
    "blocks": BLOCKS,
    "datasets": DATASETS,
    "discriminators": DISCRIMINATORS,
    "generators": GENERATORS,
    "latents": LATENTS,
    "losses": LOSSES,
    "optimizers": OPTIMIZERS,
    "presets": PRESETS,
    "regularizers": REGULARIZERS,
}
"""What `gankit list` lists."""

_OF_RECIPES = (
    "seed",
    "device",
    "replicas",
    "log_every_steps",
    "sample_every_steps",
    "checkpoint_every_steps",
    "check_every_steps",
)

INTERRUPTED = 130
TERMINATED = 143
FAILED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for an error in what was asked, 130 after Ctrl-C, 143 after SIGTERM.

    Example:
        >>> main(["list", "losses", "min*"])
        minimax  Minimax: G descends the value that D ascends (Goodfellow et al. 2014, eq. 1).
        0
    """
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except GankitError as error:
        print(f"gankit: error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as error:
        print("gankit: interrupted", file=sys.stderr)
        return TERMINATED if isinstance(error, _Terminated) else INTERRUPTED
    except BrokenPipeError:  # `gankit list | head`
        sys.stderr.close()
        return 0


# --- train -----------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    launch = Launch()
    with launch.joined(options.device) as ranks:
        return _train_with(options, launch, ranks)


def _train_with(options: argparse.Namespace, launch: Launch, ranks: Ranks) -> int:
    run = _new_run(options, launch) if options.resume is None else _continued_run(options, ranks)
    run.recipe = dataclasses.replace(run.recipe, ranks=ranks.size)
    # a launcher that starts its processes again starts the same command
    is_begun = options.resume is not None
    if not is_begun and launch.is_there:
        is_begun = launch.note("folder is new", "yes" if is_new(run.folder) else "no") == "yes" and launch.restarts > 0
    if ranks.size > 1 and ranks.is_first:
        size = run.recipe.preset.batch_size
        print(f"{ranks.size} ranks with batches of {size} each, {ranks.size * size} in all", file=sys.stderr)
    try:
        with _stop_on_interrupt(run, ranks=ranks) as received:
            if is_begun:
                trainer = run.resume(progress=options.progress, override=options.override)
            else:
                trainer = run.train(progress=options.progress)
    except (KeyboardInterrupt, DataError) as error:
        if has_checkpoints(run.checkpoints) and not isinstance(error, NonFiniteError) and ranks.is_first:
            print(f"\ncontinue with\n  {_resume_command(run, launch)}", file=sys.stderr)
        raise
    is_stopped = trainer.steps_done < run.recipe.preset.steps
    if ranks.is_first:
        _report(run, trainer)
        if is_stopped and run.recipe.checkpoint_every_steps:
            print(f"continue {_resume_command(run, launch)}")
    return 128 + received[0] if received else 0


def _new_run(options: argparse.Namespace, launch: Launch) -> Run:
    if options.preset is None:
        raise BadArgumentsError("train needs a PRESET, or --resume RUN, got neither")
    if options.override:
        raise BadArgumentsError("--override goes with --resume RUN, got it without")
    preset = _preset(options.preset)
    preset = preset.replace(**_changes(preset, options))
    recipe = Recipe(preset=preset, **_given(options, *_OF_RECIPES))
    return Run(launch.note("folder", str(_folder(options, preset.name))), recipe)


def _continued_run(options: argparse.Namespace, ranks: Ranks) -> Run:
    run = ranks.first(lambda: Run.open(options.resume))
    if options.out is not None and Path(options.out).resolve() != run.folder.resolve():
        raise BadArgumentsError(f"--out must be left out beside --resume {options.resume}, got {options.out!r}")
    recipe = run.recipe
    if options.preset not in (None, recipe.preset.name):
        raise RecipeDiffersError(
            f"{options.resume!r} is a run of the preset {recipe.preset.name!r}, got {options.preset!r}; leave it out"
        )
    preset = recipe.preset.replace(**_changes(recipe.preset, options))
    recipe = dataclasses.replace(recipe, preset=preset, **_given(options, *_OF_RECIPES))
    if not options.override:
        differences = run.recipe.differences(recipe)
        check_same_recipe(differences, str(options.resume), decays=preset.learning_rate_decay)
    return Run(run.folder, recipe)


def _resume_command(run: Run, launch: Launch) -> str:
    return shlex.join([*launch.command, "train", "--resume", str(run.folder)])


def _preset(name: str) -> Preset:
    preset = PRESETS.get(name)
    if not isinstance(preset, Preset):
        raise BadArgumentsError(f"the command line trains a Preset, got {name!r}, which is {preset!r}")
    return preset


def _folder(options: argparse.Namespace, name: str) -> Path:
    return Path(options.out or Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S"))


def _changes(preset: Preset, options: argparse.Namespace) -> dict[str, Any]:
    """Return the preset's fields that the command line changes."""
    changes = _given(
        options,
        "generator",
        "discriminator",
        "latent",
        "generator_optimizer",
        "discriminator_optimizer",
        "discriminator_steps",
        "discriminator_warmup_steps",
        "averaging_decay",
        "max_gradient_norm",
        "num_classes",
        "precision",
        "execution",
        "learning_rate_decay",
        "share_generator_forward",
        "concatenate_discriminator_passes",
        "on_non_finite",
        "synchronize_batch_norm",
        "steps",
        "batch_size",
    )
    if options.loss:
        changes["loss"] = _loss(options.loss)
    if options.regularizer:
        changes["regularizers"] = tuple(options.regularizer)
    data = options.data or Spec.of(preset.data)
    if options.root is not None:
        if not DATASETS.accepts(data, "root"):
            raise BadArgumentsError(f"--root is for a data set that has one, got it with {data.name!r}")
        data = data.with_defaults(root=options.root)
    changes["data"] = data
    return changes


def _loss(stages: Sequence[tuple[int, Spec]]) -> Spec | LossSchedule:
    if len({step for step, _ in stages}) < len(stages):
        raise BadValueError(
            "--loss given more than once needs the step at which each takes over: --loss non_saturating "
            "--loss minimax@2000"
        )
    return stages[0][1] if len(stages) == 1 and stages[0][0] == 0 else LossSchedule(dict(stages))


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


class _Terminated(KeyboardInterrupt):
    """A second signal was SIGTERM."""


@contextlib.contextmanager
def _stop_on_interrupt(
    run: Run | Comparison, when: str = "after this step", ranks: Ranks | None = None
) -> Generator[list[int]]:
    """Let the first Ctrl-C, or SIGTERM, end training after its step; the second one interrupts it.

    Not by SIGTERM's default action, which would leave half of a checkpoint that is being written.

    Yields:
        A list that is empty as long as there was no signal, and holds the first one's number afterwards.
    """
    received: list[int] = []
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def abort(number: int, frame: Any) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else _Terminated

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        for one in before:
            signal.signal(one, abort)
        again = "Ctrl-C" if number == signal.SIGINT else "the signal"
        if ranks is None or ranks.is_first:
            print(f"\nstopping {when}; {again} again to abort", file=sys.stderr)
        run.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield received
    finally:
        restore()


def _report(run: Run, trainer: AdversarialTrainer) -> None:
    pictures = sorted((run.folder / "samples").glob("*.png"))
    print(f"{trainer.steps_done} of {run.recipe.preset.steps} steps done")
    for coverage in run.evaluations:
        print(f"modes    {_shown(dataclasses.asdict(coverage))}")
    if trainer.replicas is not None:
        print(_over_replicas(trainer))
    print(f"samples  {pictures[-1]}" if pictures else "no samples")
    print(f"weights  {run.folder / 'generator.safetensors'}")
    more = "samples.png" if run.evaluations else "grid.png"
    count = "" if run.evaluations else "--count 64 "
    print(f"more     gankit sample {run.folder} {count}--out {more}")


def _over_replicas(trainer: AdversarialTrainer) -> str:
    """Return the newest metrics of all replicas: mean and standard deviation over their seeds."""
    read = trainer.read_metrics()
    names = [name for name in read if f"{name}/sd" in read]
    width = max(map(len, names), default=0)
    rows = [f"  {name:{width}}  {read[name]:8.4f} ± {read[f'{name}/sd']:.4f}" for name in names]
    return "\n".join([f"mean ± standard deviation over {trainer.replicas} replicas:", *rows])


# --- compare ---------------------------------------------------------------------------------------------


def _compare(options: argparse.Namespace) -> int:
    if Launch().is_there:
        raise BadArgumentsError("compare trains in one process, got it under a launcher; torchrun is for train")
    preset = _preset(options.preset)
    same_for_all = ("latent", "generator_optimizer", "discriminator_optimizer", "learning_rate_decay")
    preset = preset.replace(**_given(options, *same_for_all, "steps", "batch_size"))
    if options.regularizer:
        preset = preset.replace(regularizers=tuple(options.regularizer))
    entries = [Entry.parse(text) for texts in options.loss for text in split_entries(texts)]
    check_count("--seeds", options.seeds)
    folder = _folder(options, f"compare_{preset.name}")
    comparison = Comparison(folder, preset, entries, seeds=range(options.seeds), device=options.device)
    total = len(comparison.entries) * options.seeds

    def report(outcome: Outcome) -> None:
        done = f"[{len(comparison.outcomes)}/{total}] {outcome.label}, seed {outcome.seed}, {outcome.seconds:.0f} s"
        print(f"{done}: {_shown(outcome.figures)}", file=sys.stderr, flush=True)

    with _stop_on_interrupt(comparison, "after this step, keeping what is done") as interrupted:
        comparison.run(report if options.progress else None)
    print(comparison.table(), end="")
    print(f"\n{folder}")
    return 128 + interrupted[0] if interrupted else 0


def _shown(figures: Mapping[str, float | None]) -> str:
    """Return figures in one line; those of modes in words."""
    if "captured_modes" in figures:
        share, divergence = figures["high_quality_share"] or 0.0, figures["reverse_kl"]
        told = "not defined" if divergence is None else f"{divergence:.3f}"
        return f"{figures['captured_modes']} of {figures['modes']}, {share:.1%} of high quality, reverse KL {told}"
    return ", ".join(f"{n.replace('_', ' ')} {'–' if v is None else f'{v:.3f}'}" for n, v in figures.items())


# --- sample, list, show ----------------------------------------------------------------------------------


def _sample(options: argparse.Namespace) -> int:
    run = Run.open(options.run)
    out = Path(options.out)
    if _is_there(out) and not options.overwrite:
        raise OutputExistsError(f"--out must be a new file, got {options.out!r}; name another, or add --overwrite")
    trainer = run.load_trainer(options.device)
    run.draw_samples(trainer, out, count=options.count, seed=options.seed)
    print(out)
    return 0


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as too long a name: whoever writes it says so
        return False


def _list(options: argparse.Namespace) -> int:
    if options.kind is None:
        width = max(map(len, REGISTRIES))
        for kind, registry in REGISTRIES.items():
            print(f"{kind:{width}}  {', '.join(registry.names())}")
        return 0
    registry = REGISTRIES[options.kind]
    names = registry.names(options.pattern)
    width = max(map(len, names), default=0)
    for name in names:
        print(f"{name:{width}}  {registry.summary(name)}".rstrip())
    return 0


def _show(options: argparse.Namespace) -> int:
    registry = REGISTRIES[options.kind]
    part = registry.get(options.name)
    print(f"{options.name}{registry.signature(options.name)}\n\n{inspect.getdoc(part) or ''}".rstrip())
    return 0


# --- arguments -------------------------------------------------------------------------------------------


def _spec(text: str) -> Spec:
    try:
        return Spec.parse(text)
    except GankitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _stage(text: str) -> tuple[int, Spec]:
    loss, at, step = text.rpartition("@")
    if at and step.isdigit():
        return int(step), _spec(loss)
    return 0, _spec(text)


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        """Say it in one line, whatever was given."""
        super().error(" ".join(message.split()))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gankit", description="Train generative adversarial networks put together from registered parts."
    )
    parser.add_argument("--version", action="version", version=f"gankit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a preset", description=_train_help())
    train.set_defaults(command=_train)
    train.add_argument("preset", metavar="PRESET", nargs="?", help="a name from `gankit list presets`")
    parts = train.add_argument_group("parts, by name and arguments: mlp:hidden_dim=256")
    parts.add_argument("--generator", type=_spec, metavar="NAME")
    parts.add_argument("--discriminator", type=_spec, metavar="NAME")
    parts.add_argument(
        "--loss",
        type=_stage,
        metavar="NAME[@STEP]",
        action="append",
        help="given again with @STEP, another loss takes over at that step",
    )
    parts.add_argument("--regularizer", type=_spec, metavar="NAME", action="append", help="may be repeated")
    parts.add_argument("--latent", type=_spec, metavar="NAME")
    parts.add_argument("--generator-optimizer", type=_spec, metavar="NAME")
    parts.add_argument("--discriminator-optimizer", type=_spec, metavar="NAME")
    data = train.add_argument_group("data")
    data.add_argument("--data", type=_spec, metavar="NAME", help="a name from `gankit list datasets`")
    data.add_argument("--root", metavar="DIR", help="the data set's folder")
    data.add_argument("--batch-size", type=int, metavar="N", help="of each process, where several train together")
    data.add_argument("--num-classes", type=int, metavar="N", help="train a conditional model on the labels")
    course = train.add_argument_group("training")
    course.add_argument("--steps", type=int, metavar="N", help="steps in all")
    course.add_argument("--discriminator-steps", type=int, metavar="N")
    course.add_argument("--discriminator-warmup-steps", type=int, metavar="N")
    course.add_argument("--averaging-decay", type=float, metavar="X")
    course.add_argument("--max-gradient-norm", type=float, metavar="X")
    course.add_argument("--learning-rate-decay", action=argparse.BooleanOptionalAction, help="linearly to zero")
    course.add_argument("--seed", type=int, metavar="N", help="default: 0")
    course.add_argument("--replicas", type=int, metavar="R", help="train R models side by side, on R seeds")
    speed = train.add_argument_group("speed")
    speed.add_argument("--execution", choices=EXECUTIONS, help="how a step is run; default: the preset's")
    speed.add_argument("--precision", choices=["float32", "bfloat16", "tf32"])
    speed.add_argument("--share-generator-forward", action="store_true", default=None, help="generate once a step")
    speed.add_argument(
        "--concatenate-discriminator-passes", action="store_true", default=None, help="ask D once a half, not twice"
    )
    course.add_argument("--device", metavar="DEVICE", help="default: cuda where there is one, else cpu")
    output = train.add_argument_group("output")
    output.add_argument("--out", metavar="DIR", help="the run's folder; default: runs/PRESET/TIME")
    output.add_argument("--log-every-steps", type=int, metavar="N")
    output.add_argument("--sample-every-steps", type=int, metavar="N")
    output.add_argument(
        "--checkpoint-every-steps", type=int, metavar="N", help="what --resume goes on from; default: 100, 0 for none"
    )
    output.add_argument("--no-progress", dest="progress", action="store_false", help="no progress bar")
    faults = train.add_argument_group("NaN and infinity")
    faults.add_argument(
        "--on-non-finite",
        choices=ON_NON_FINITE,
        help="an error; skip the update; or rollback to a checkpoint, with half the learning rates; default: raise",
    )
    faults.add_argument("--check-every-steps", type=int, metavar="N", help="default: as often as it logs")
    together = train.add_argument_group("several processes: torchrun --nproc-per-node 2 -m gankit train ...")
    together.add_argument(
        "--synchronize-batch-norm", action="store_true", default=None, help="over the batches of all processes"
    )
    again = train.add_argument_group("going on")
    again.add_argument("--resume", metavar="RUN", help="go on with a run that was interrupted, or with more --steps")
    again.add_argument(
        "--override", action="store_true", help="with --resume: go on by other options than the run's recipe has"
    )

    sample = commands.add_parser("sample", help="draw samples from a run")
    sample.set_defaults(command=_sample)
    sample.add_argument("run", metavar="RUN", help="the run's folder")
    sample.add_argument("--count", type=int, metavar="N", help="default: 64 pictures, or 2,000 points")
    sample.add_argument("--out", default="samples.png", metavar="FILE", help="default: samples.png")
    sample.add_argument("--overwrite", action="store_true", help="replace FILE")
    sample.add_argument("--seed", type=int, default=0, metavar="N")
    sample.add_argument("--device", metavar="DEVICE", help="default: the run's")

    compare = commands.add_parser("compare", help="compare losses on several seeds", description=_compare_help())
    compare.set_defaults(command=_compare)
    compare.add_argument("preset", metavar="PRESET", help="a name from `gankit list presets`")
    compare.add_argument(
        "--loss",
        action="append",
        required=True,
        metavar="NAME,NAME",
        help="losses, with arguments as in f_divergence:divergence=kl, and with regularizers of their own as in "
        "wasserstein+weight_clipping; +none for no regularizer; may be repeated",
    )
    compare.add_argument(
        "--regularizer",
        type=_spec,
        metavar="NAME",
        action="append",
        help="for losses without a +, instead of the preset's; may be repeated",
    )
    for name in ("--latent", "--generator-optimizer", "--discriminator-optimizer"):
        compare.add_argument(name, type=_spec, metavar="NAME", help="of all; default: the preset's")
    compare.add_argument("--learning-rate-decay", action=argparse.BooleanOptionalAction, help="default: the preset's")
    compare.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1; default: 3")
    compare.add_argument("--steps", type=int, metavar="N", help="steps of each training")
    compare.add_argument("--batch-size", type=int, metavar="N")
    compare.add_argument("--device", metavar="DEVICE", help="default: cuda where there is one, else cpu")
    compare.add_argument("--out", metavar="DIR", help="default: runs/compare_PRESET/TIME")
    compare.add_argument("--no-progress", dest="progress", action="store_false", help="no line after each training")

    listing = commands.add_parser("list", help="list registered parts")
    listing.set_defaults(command=_list)
    listing.add_argument("kind", nargs="?", choices=REGISTRIES, metavar="KIND", help=", ".join(REGISTRIES))
    listing.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="shell wildcards: 'min*'")

    show = commands.add_parser("show", help="show one part's arguments and documentation")
    show.set_defaults(command=_show)
    show.add_argument("kind", choices=REGISTRIES, metavar="KIND", help=", ".join(REGISTRIES))
    show.add_argument("name", metavar="NAME")
    return parser


def _train_help() -> str:
    return (
        "Train a preset and write a run: recipe, metrics, sample grids, their animation, curves, weights, "
        "checkpoints. Ctrl-C ends it after the present step with everything written; --resume goes on with it."
    )


def _compare_help() -> str:
    return (
        "Train each loss on each seed, print one table of means and standard deviations, and write it with all "
        "figures and a picture. Ctrl-C keeps what is done."
    )
