"""`gankit compare`."""

from __future__ import annotations

import argparse
import sys
import time

from gankit.cli.arguments import add_flags, given, named_preset, named_regularizers, output_folder, spec
from gankit.cli.figures import figures_in_words
from gankit.cli.interrupts import stop_on_signal
from gankit.cli.train import OPTION_FLAGS, PRESET_FLAGS
from gankit.compare import Comparison, Entry, Outcome, split_entries
from gankit.errors import BadArgumentsError, check_count
from gankit.presets import Preset
from gankit.training import Launch, Options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `gankit compare` to its parser."""
    parser.description = (
        "Train each variant of a preset on each seed and score the samples. Print means and standard deviations, and "
        "the differences from the first row with their verdicts: better, worse, or cannot tell on so many seeds. "
        "Ctrl-C ends the comparison and keeps the trainings that are done."
    )
    parser.add_argument("preset", metavar="PRESET", help="A name from `gankit list presets`.")
    entries = parser.add_argument_group("what is compared")
    entries.add_argument(
        "--loss",
        action="append",
        default=[],
        metavar="NAME,NAME",
        help="Losses, with arguments as in f_divergence:divergence=kl, and with regularizers of their own as in "
        "wasserstein+weight_clipping. A loss with +none has no regularizer. It can be repeated.",
    )
    entries.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="A variant that changes any field of the preset: generator=mlp:hidden_dim=64. Plus signs join several "
        "changes, the loss first: hinge+r1:weight=1+averaging_decay=0.99. It can be repeated. Without --loss, the "
        "first row is the preset unchanged.",
    )
    same = parser.add_argument_group("what all rows have that do not change it; by default, as in the preset")
    same.add_argument(
        "--regularizer",
        type=spec,
        metavar="NAME",
        action="append",
        help="The name of a penalty or constraint for the rows without a + before a name, in place of the preset's. It "
        "can be repeated.",
    )
    add_flags(same, Preset, PRESET_FLAGS)
    add_flags(same, Options, OPTION_FLAGS)
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="The number of seeds, from 0 to N - 1. By default, 3."
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="The device. By default, CUDA where there is one, and the CPU otherwise."
    )
    parser.add_argument(
        "--out", metavar="DIR", help="The folder of the comparison. By default, runs/compare_PRESET/TIME."
    )
    parser.add_argument(
        "--no-progress",
        dest="progress",
        action="store_false",
        help="Print no expected duration, and no line after each training.",
    )


def run(options: argparse.Namespace) -> int:
    """Compare as the options ask for."""
    if Launch().is_there:
        raise BadArgumentsError("compare trains in one process, got it under a launcher; torchrun is for train")
    preset = named_preset(options.preset).replace(**given(options, (*PRESET_FLAGS, *OPTION_FLAGS)))
    if options.regularizer:
        preset = preset.replace(regularizers=named_regularizers(options.regularizer))
    if not options.loss and not options.variant:
        raise BadArgumentsError("compare needs --loss or --variant, got neither")
    losses = [text for texts in options.loss for text in split_entries(texts)]
    entries = [Entry.parse(text) for text in (*losses, *options.variant)]
    if not options.loss and Entry() not in entries:
        entries.insert(0, Entry())
    check_count("--seeds", options.seeds)
    folder = output_folder(options, f"compare_{preset.name}")
    comparison = Comparison(folder, preset, entries, seeds=range(options.seeds), device=options.device)
    total = comparison.trainings

    def say(line: str) -> None:
        if options.progress:
            print(line, file=sys.stderr, flush=True)

    def report(outcome: Outcome) -> None:
        done = len(comparison.outcomes)
        left = (time.perf_counter() - started) / done * (total - done)
        place = f"[{done}/{total}, about {duration_in_words(left)} left]" if done < total else f"[{done}/{total}]"
        result = _result_in_words(outcome)
        say(f"{place} {outcome.label}, seed {outcome.seed}, {outcome.seconds:.0f} s: {result}")

    def forecast(seconds: float) -> None:
        say(f"about {duration_in_words(seconds)} for {total} training{'s' * (total > 1)} with their evaluations")

    started = time.perf_counter()
    with stop_on_signal(comparison, "after this step, keeping what is done") as received:
        comparison.run(report, forecast)
    print(comparison.table(), end="")
    print(f"\n{folder}")
    return 128 + received[0] if received else 0


def duration_in_words(seconds: float) -> str:
    """Return a duration with the unit in which it is a small number.

    Example:
        >>> [duration_in_words(seconds) for seconds in (1, 89, 90, 5000, 10000)]
        ['1 second', '89 seconds', '2 minutes', '83 minutes', '2.8 hours']
    """
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    count, unit = (round(seconds / 60), "minute") if seconds >= 90 else (max(1, round(seconds)), "second")
    return f"{count} {unit}{'s' * (count > 1)}"


def _result_in_words(outcome: Outcome) -> str:
    """Return the most telling score of a training, or its losses where there is no score."""
    if outcome.has_diverged:
        return "diverged"
    for metric, score in outcome.scores.items():
        return f"{metric} {score}"
    return figures_in_words(outcome.figures)
