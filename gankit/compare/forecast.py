"""`Forecast`: how long all trainings of a comparison will take, measured in the first seconds of the first one."""

from __future__ import annotations

import time
from collections.abc import Callable

from gankit.training import AdversarialTrainer


class Forecast:
    """A callback that says once, after some steps of the first training, how long all of them will take.

    The first step is left out, because it may take much longer than the others. If the training ends before the speed
    is known, `finish` says it.

    Args:
        steps: The number of steps of all trainings.
        evaluations: The duration of all evaluations, in seconds.
        announce: The function that is called once with the duration of everything, in seconds.
        after: The number of seconds during which the speed is measured.
    """

    every = 1

    def __init__(
        self, steps: int, evaluations: float, announce: Callable[[float], None], *, after: float = 1.0
    ) -> None:
        self._steps = steps
        self._evaluations = evaluations
        self._announce = announce
        self._after = after
        self._began: tuple[float, int] | None = None
        self._is_done = False

    def __call__(self, trainer: AdversarialTrainer) -> None:
        """Note the time of the first step, and announce the duration once the speed is known."""
        if self._began is None:
            trainer.read_metrics()  # waits until the device is done
            self._began = (time.perf_counter(), trainer.steps_done)
        elif not self._is_done and time.perf_counter() - self._began[0] >= self._after:
            self.finish(trainer)

    def finish(self, trainer: AdversarialTrainer) -> None:
        """Announce the duration now, unless that was done or fewer than two steps were made."""
        if self._is_done or self._began is None or trainer.steps_done <= self._began[1]:
            return
        trainer.read_metrics()
        seconds_per_step = (time.perf_counter() - self._began[0]) / (trainer.steps_done - self._began[1])
        self._is_done = True
        self._announce(self._steps * seconds_per_step + self._evaluations)
