"""One loss at first, another later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gankit.errors import BadValueError
from gankit.losses.registry import LOSSES
from gankit.protocols import AdversarialLoss, State, Stateful
from gankit.registry import Spec


class LossSchedule:
    """Losses by the step at which each takes over, counted from 0.

    The lecture's heuristic, non-saturating first and minimax afterwards (Goodfellow et al. 2014, section 3,
    gives the reason), is the example below. Optimizers and averages go on as they are across a change.

    Args:
        stages: from the first step of each stage to its loss: a name, a `Spec`, or a loss.

    Raises:
        BadValueError: without a stage for step 0, or with a negative step.

    Example:
        >>> schedule = LossSchedule({0: "non_saturating", 2_000: "minimax"})
        >>> schedule.loss_at(1_999), schedule.loss_at(2_000)
        (NonSaturating(label_smoothing=0.0), Minimax(label_smoothing=0.0))
    """

    def __init__(self, stages: Mapping[int, str | Spec | AdversarialLoss]) -> None:
        if any(isinstance(step, bool) or not isinstance(step, int) or step < 0 for step in stages):
            raise BadValueError(f"a LossSchedule's steps must be integers of 0 or more, got {list(stages)}")
        if 0 not in stages:
            raise BadValueError(f"a LossSchedule needs a loss for step 0, got steps {sorted(stages)}")
        self.stages: dict[int, Any] = {
            step: Spec.of(stages[step]) if isinstance(stages[step], (str, Spec)) else stages[step]  # pyright: ignore[reportArgumentType]
            for step in sorted(stages)
        }
        self._losses = {step: LOSSES.build(ref) for step, ref in self.stages.items()}

    def loss_at(self, step: int) -> AdversarialLoss:
        """Return the loss for the trainer step `step`."""
        first = max(start for start in self._losses if start <= step)
        return self._losses[first]

    def state_dict(self) -> dict[str, Any]:
        """Return the states of those losses that have one, by step."""
        return {str(step): loss.state_dict() for step, loss in self._losses.items() if isinstance(loss, Stateful)}

    def load_state_dict(self, state: State) -> None:
        """Continue from what `state_dict` returned."""
        for step, loss in self._losses.items():
            if isinstance(loss, Stateful):
                loss.load_state_dict(state[str(step)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LossSchedule) and self.stages == other.stages

    def __hash__(self) -> int:
        return hash(tuple(self.stages.items()))

    def __repr__(self) -> str:
        return f"LossSchedule({self.stages!r})"
