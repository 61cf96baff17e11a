"""The tables of a comparison: what each entry scores, beside real samples, and how it differs from the first one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from gankit.compare.outcomes import Outcome
from gankit.compare.paired import Difference, paired_difference
from gankit.metrics import Score

_DASH = "–"
_ARROWS = {"higher": "↑", "lower": "↓"}


def tables(labels: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    """Return the tables in Markdown: the scores, and the differences from the first entry if there are others.

    Without scores, there is one table of the last losses, which says that they are no measure of quality.

    Args:
        labels: The labels of the entries, the baseline first.
        outcomes: The results of the trainings that are done.
    """
    if not any(outcome.scores for outcome in outcomes):
        return _table_of_losses(labels, outcomes)
    parts = [_table_of_scores(labels, outcomes)]
    if len(labels) > 1:
        parts.append(_table_of_differences(labels, outcomes))
    return "\n".join(parts)


def differences(labels: Sequence[str], outcomes: Sequence[Outcome]) -> dict[str, dict[str, Difference]]:
    """Return how each later entry differs from the first one: by label and metric, on the seeds that both have.

    Args:
        labels: The labels of the entries, the baseline first.
        outcomes: The results of the trainings that are done.
    """
    baseline = {outcome.seed: outcome.scores for outcome in _of(labels[0], outcomes)}
    found: dict[str, dict[str, Difference]] = {}
    for label in labels[1:]:
        pairs = [(one.scores, baseline[one.seed]) for one in _of(label, outcomes) if one.seed in baseline]
        found[label] = {}
        for metric, score in _metrics(outcomes).items():
            values, others = ([pair[side][metric].value for pair in pairs] for side in (0, 1))
            found[label][metric] = paired_difference(values, others, score.better)
    return found


def _table_of_scores(labels: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    metrics = _metrics(outcomes)
    rows = [_row("real samples", "", *(_number(score.real) for score in metrics.values()))]
    for label in labels:
        done = _of(label, outcomes)
        cells = [_mean_and_deviation([one.scores[metric].value for one in done]) for metric in metrics]
        rows.append(_row(f"`{label}`", _count(done), *cells))
    counts = sorted({score.samples for score in metrics.values()})
    samples = " or ".join(f"{count:,}" for count in counts)
    return _table(["entry", "seeds", *_titles(metrics)], rows) + (
        f"\n↑ higher is better, ↓ lower is better. {samples} samples each, and as many real ones in the first row. "
        "± is the standard deviation over the seeds.\n"
    )


def _table_of_differences(labels: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    metrics = _metrics(outcomes)
    baseline = _of(labels[0], outcomes)
    room = [score.real - _mean([one.scores[metric].value for one in baseline]) for metric, score in metrics.items()]
    rows = [_row("real samples", "", *(_number(one, sign="+") for one in room))]
    for label, found in differences(labels, outcomes).items():
        seeds = max(one.seeds for one in found.values())
        rows.append(_row(f"`{label}`", str(seeds), *map(_verdict_and_interval, found.values())))
    return _table([f"difference from `{labels[0]}`", "seeds", *_titles(metrics)], rows) + (
        "\nMean difference [95 % interval], paired by seed. Of twenty verdicts on equal entries, about one is wrong.\n"
    )


def _verdict_and_interval(found: Difference) -> str:
    if not math.isfinite(found.mean):
        return found.verdict_in_words
    if not math.isfinite(found.low):
        return f"{found.verdict_in_words}: {_number(found.mean, sign='+')}"
    decimals = _decimals(found.high - found.mean)
    mean, low, high = (_number(one, decimals, sign="+") for one in (found.mean, found.low, found.high))
    return f"{found.verdict_in_words}: {mean} [{low}, {high}]"


def _table_of_losses(labels: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    names = list(outcomes[0].figures) if outcomes else []
    rows: list[str] = []
    for label in labels:
        done = _of(label, outcomes)
        values = {
            name: [math.nan if (one := each.figures.get(name)) is None else one for each in done] for name in names
        }
        rows.append(_row(f"`{label}`", _count(done), *(_mean_and_deviation(values[name]) for name in names)))
    note = "\nNo metric is known for these data. Losses do not say which samples are better.\n" if names else ""
    return _table(["entry", "seeds", *names], rows) + note


def _metrics(outcomes: Sequence[Outcome]) -> dict[str, Score]:
    """Return the scores of one training, which name the metrics and what real samples score."""
    for outcome in outcomes:
        if outcome.scores:
            return outcome.scores
    return {}


def _of(label: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.label == label]


def _titles(metrics: dict[str, Score]) -> list[str]:
    return [f"{metric} {_ARROWS[score.better]}" for metric, score in metrics.items()]


def _count(done: Sequence[Outcome]) -> str:
    diverged = sum(outcome.has_diverged for outcome in done)
    return f"{len(done)}, {diverged} diverged" if diverged else str(len(done))


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.nan


def _mean_and_deviation(values: Sequence[float]) -> str:
    """Return the mean and the deviation of the finite values, and how many they are if some are not."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        text = _number(_mean(finite))
    else:
        deviation = statistics.stdev(finite)
        decimals = _decimals(deviation)
        text = f"{_number(_mean(finite), decimals)} ± {_number(deviation, decimals)}"
    return text if len(finite) in (0, len(values)) else f"{text} ({len(finite)} of {len(values)})"


def _decimals(error: float) -> int | None:
    """Return the number of decimal places that show two digits of an error, or None for no error."""
    return min(9, max(0, 1 - math.floor(math.log10(error)))) if error > 0 else None


def _number(value: float, decimals: int | None = None, sign: str = "-") -> str:
    """Return a number with so many decimal places, or with four digits."""
    if not math.isfinite(value):
        return _DASH
    return f"{value:{sign}.4g}" if decimals is None else f"{value:{sign}.{decimals}f}"


def _table(titles: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([_row(*titles), "|" + "---|" * len(titles), *rows]) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
