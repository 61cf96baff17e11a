"""`Evaluation`: the scores of a generator at one step, and the one table in which they are shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from gankit.errors import BadArgumentsError, BadValueError, did_you_mean
from gankit.files import finite_or_none
from gankit.metrics.scores import Score

Weights = Literal["raw", "averaged"]
"""The generator's own weights, or their average."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a generator at one step: of its own weights, and of the averaged ones if there are any.

    Args:
        step: The number of steps that had been made.
        scores: For `"raw"` and `"averaged"`, the scores of each replica by the names of their metrics. A single model
            has a sequence of one.

    Example:
        >>> scores = [{"distance": Score(value, real=0.5, better="lower", samples=100)} for value in (3.0, 5.0)]
        >>> evaluation = Evaluation(20, {"raw": scores})
        >>> evaluation.mean("distance").value, evaluation.spread("distance")
        (4.0, 1.4142135623730951)
        >>> print(evaluation.table())
        metric    raw        real  better  samples
        distance  4 ± 1.414   0.5   lower      100
    """

    step: int
    scores: Mapping[Weights, Sequence[Mapping[str, Score]]]

    @property
    def chosen(self) -> Weights:
        """The weights that `AdversarialTrainer.sample` uses: the averaged ones if there are any."""
        return "averaged" if "averaged" in self.scores else "raw"

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics."""
        return list(self.scores["raw"][0])

    def mean(self, metric: str, weights: Weights | None = None) -> Score:
        """Return a score whose value is the mean over the replicas.

        Args:
            metric: The name of the metric.
            weights: Which weights were scored. None takes the `chosen` ones.

        Raises:
            BadValueError: For a metric that this evaluation does not have.
        """
        scores = self._scores(metric, weights)
        value, real = (statistics.fmean(values) for values in zip(*((s.value, s.real) for s in scores), strict=True))
        return Score(value, real, scores[0].better, scores[0].samples)

    def spread(self, metric: str, weights: Weights | None = None) -> float | None:
        """Return the standard deviation of a sample over the replicas, with `n - 1`, or None for a single model."""
        values = [one.value for one in self._scores(metric, weights)]
        if len(values) < 2:
            return None
        return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan

    def _scores(self, metric: str, weights: Weights | None) -> list[Score]:
        if metric not in self.metrics:
            raise BadValueError(
                f"metric must be one of {', '.join(self.metrics)}, got {metric!r}.{did_you_mean(metric, self.metrics)}"
            )
        return [one[metric] for one in self.scores[weights or self.chosen]]

    def table(self) -> str:
        """Return the scores in a table, one line for each metric, with those of real samples beside them.

        A value of several replicas is their mean ± the standard deviation of a sample. What is not finite is shown as
        a dash.
        """
        header = ["metric", *self.scores, "real", "better", "samples"]
        rows = [header]
        for metric in self.metrics:
            score = self.mean(metric)
            values = [self._cell(metric, weights) for weights in self.scores]
            rows.append([metric, *values, _number(score.real), score.better, f"{score.samples:,}"])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        values = 1 + len(self.scores)  # the columns on the left, whose text begins at the left
        return "\n".join(
            "  ".join(
                cell.ljust(width) if index < values else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )

    def _cell(self, metric: str, weights: Weights) -> str:
        spread = self.spread(metric, weights)
        value = _number(self.mean(metric, weights).value)
        return value if spread is None else f"{value} ± {_number(spread)}"

    def row(self) -> dict[str, float | None]:
        """Return one line of `evaluations.jsonl`.

        It has the step and, for each metric such as `raw/distance`, the mean over the replicas, their standard
        deviation `raw/distance/sd` if there are several, and `raw/distance/real`, the value of real samples. What is
        not finite is None.

        Example:
            >>> score = Score(3.0, real=0.5, better="lower", samples=100)
            >>> Evaluation(20, {"raw": [{"distance": score}]}).row()
            {'step': 20, 'raw/distance': 3.0, 'raw/distance/real': 0.5}
        """
        row: dict[str, float] = {"step": self.step}
        for weights in self.scores:
            for metric in self.metrics:
                score, spread, name = self.mean(metric, weights), self.spread(metric, weights), f"{weights}/{metric}"
                row |= {name: score.value} | ({} if spread is None else {f"{name}/sd": spread})
                row[f"{name}/real"] = score.real
        return finite_or_none(row)

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation in plain containers that JSON can hold, every replica by itself."""
        scores = {
            weights: [{name: score.to_dict() for name, score in one.items()} for one in replicas]
            for weights, replicas in self.scores.items()
        }
        return {"step": self.step, **scores}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation that `to_dict` described.

        Raises:
            BadArgumentsError: For anything else.

        Example:
            >>> evaluation = Evaluation(20, {"raw": [{"distance": Score(3.0, real=0.5, better="lower", samples=100)}]})
            >>> Evaluation.from_dict(evaluation.to_dict()) == evaluation
            True
        """
        try:
            scores = {
                name: [{metric: Score.from_dict(score) for metric, score in one.items()} for one in form[name]]
                for name in ("raw", "averaged")
                if name in form
            }
            if type(form["step"]) is not int or not scores["raw"][0]:
                raise ValueError
            if any(one.keys() != scores["raw"][0].keys() for replicas in scores.values() for one in replicas):
                raise ValueError
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise BadArgumentsError(
                f"an evaluation must have a step, and scores for raw and averaged, got {str(form)[:100]}"
            ) from None
        return cls(form["step"], cast("dict[Weights, list[dict[str, Score]]]", scores))


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
