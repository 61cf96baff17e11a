"""`Outcome`: the result of one training."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from gankit.metrics import Evaluation, Score


@dataclass(frozen=True)
class Outcome:
    """The result of one training.

    Args:
        label: The label of its entry.
        seed: The seed of the training.
        seconds: The duration of the training without its evaluation, in seconds.
        has_diverged: Whether the training ended because something became NaN or infinite.
        figures: The last losses and scores by name. A value that is not finite is None.
        evaluation: The scores of the samples, or None where no metric is known for the data.
    """

    label: str
    seed: int
    seconds: float
    has_diverged: bool
    figures: dict[str, float | None]
    evaluation: Evaluation | None

    @property
    def scores(self) -> dict[str, Score]:
        """The scores by metric: those of the averaged weights if there are any. Empty without an evaluation.

        The values of a training that diverged are NaN, whatever its last samples score.
        """
        if self.evaluation is None:
            return {}
        (scores,) = self.evaluation.scores[self.evaluation.chosen]
        if self.has_diverged:
            return {metric: dataclasses.replace(score, value=math.nan) for metric, score in scores.items()}
        return dict(scores)

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome in plain containers that JSON can hold."""
        evaluation = None if self.evaluation is None else self.evaluation.to_dict()
        return {**vars(self), "evaluation": evaluation}
