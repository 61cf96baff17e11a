"""One loss at first, another later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from gankit.errors import BadArgumentsError, BadValueError
from gankit.losses.registry import LOSSES
from gankit.protocols import AdversarialLoss, State, Stateful
from gankit.registry import Spec

LossRef: TypeAlias = str | Spec | AdversarialLoss
"""A loss by name, by name with arguments, or as an object."""


class LossSchedule:
    """Losses by the step at which each takes over, counted from 0.

    The lecture's heuristic, non-saturating first and minimax afterwards (Goodfellow et al. 2014, section 3,
    gives the reason), is the example below. Optimizers and averages go on as they are across a change.

    A schedule holds names and numbers, so that a preset can hold it. Each trainer calls `build` and has losses of
    its own; a loss that is given as an object is shared by all trainers that use the schedule.

    Args:
        stages: The first step of each stage, mapped to its loss: a name, a `Spec`, or a loss.

    Attributes:
        stages: The same, sorted by step, with a `Spec` in place of each name.

    Raises:
        BadValueError: If there is no stage for step 0, or a step is negative.
        UnknownNameError: If no loss has the given name.

    Example:
        >>> schedule = LossSchedule({0: "non_saturating", 2_000: "minimax"})
        >>> schedule.stages[2_000]
        Spec('minimax')
        >>> built = schedule.build()
        >>> built.loss_at(1_999), built.loss_at(2_000)
        (NonSaturating(label_smoothing=0.0), Minimax(label_smoothing=0.0))
    """

    def __init__(self, stages: Mapping[int, LossRef]) -> None:
        if any(isinstance(step, bool) or not isinstance(step, int) or step < 0 for step in stages):
            raise BadValueError(f"a LossSchedule's steps must be integers of 0 or more, got {list(stages)}")
        if 0 not in stages:
            raise BadValueError(f"a LossSchedule needs a loss for step 0, got steps {sorted(stages)}")
        self.stages: dict[int, Spec | AdversarialLoss] = {}
        for step, ref in sorted(stages.items(), key=lambda stage: stage[0]):
            if isinstance(ref, (str, Spec)):
                ref = Spec.of(ref)
                LOSSES.get(ref.name)  # a misspelt name is reported where it was written, not where the trainer is built
            self.stages[step] = ref

    def build(self) -> BuiltSchedule:
        """Build the losses that are given by name; every call builds new ones."""
        return BuiltSchedule({step: LOSSES.build(ref) for step, ref in self.stages.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LossSchedule) and self.stages == other.stages

    def __hash__(self) -> int:
        return hash(tuple(self.stages.items()))

    def __repr__(self) -> str:
        return f"LossSchedule({self.stages!r})"


class BuiltSchedule:
    """The losses of one trainer's `LossSchedule`.

    Args:
        stages: The first step of each stage, mapped to its loss. One of them must begin at step 0.

    Example:
        >>> from gankit.losses import Hinge, Minimax
        >>> built = BuiltSchedule({0: Minimax(), 10: Hinge()})
        >>> built.loss_at(10), len(built.losses)
        (Hinge(clipped_generator=False), 2)
    """

    def __init__(self, stages: Mapping[int, AdversarialLoss]) -> None:
        self._stages = dict(stages)

    @property
    def losses(self) -> tuple[AdversarialLoss, ...]:
        """The losses of all stages, each of them once."""
        return tuple({id(loss): loss for loss in self._stages.values()}.values())

    def loss_at(self, step: int) -> AdversarialLoss:
        """Return the loss for the trainer step `step`."""
        return self._stages[max(start for start in self._stages if start <= step)]

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the losses that have one, by the first step of their stage."""
        return {str(step): loss.state_dict() for step, loss in self._stages.items() if isinstance(loss, Stateful)}

    def load_state_dict(self, state: State) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            BadArgumentsError: For the state of a schedule with other stages. Nothing is changed then.
        """
        if state.keys() != (own := self.state_dict().keys()):
            raise BadArgumentsError(f"state must be of a schedule with the stages {[*own]}, got {[*state]}")
        for step, loss in self._stages.items():
            if isinstance(loss, Stateful):
                loss.load_state_dict(state[str(step)])

    def __repr__(self) -> str:
        return f"BuiltSchedule({self._stages!r})"
