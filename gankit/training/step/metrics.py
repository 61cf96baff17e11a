"""The named results of the steps: on the device, and as numbers where somebody reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MOST_READINGS = 10_000
"""The number of readings in the history above which every second one is left out, again and again."""


class Metrics:
    """The newest value of each named result, and what was read of them.

    Attributes:
        newest: The newest value of each result, 0-d or `(R,)` with replicas, on the device.
        history: What `read` has returned where it was kept: a dictionary per reading, with the step. See `record`.
        logs: The files and folders that this training writes its metrics to.

    Example:
        >>> metrics = Metrics()
        >>> metrics.update({"generator_loss": torch.tensor(0.5)})
        >>> metrics.read(step=1)
        {'step': 1, 'generator_loss': 0.5}
        >>> metrics.update({"generator_loss": torch.tensor([1.0, 2.0])})
        >>> metrics.read(step=2)["generator_loss"]  # the mean over two replicas
        1.5
    """

    def __init__(self) -> None:
        self.newest: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.logs: set[Path] = set()
        self._reading: dict[str, float] = {}

    def update(self, results: Mapping[str, Tensor]) -> None:
        """Take over the results of a step. A result that the step does not have, such as a penalty, keeps its value."""
        self.newest = {**self.newest, **results}

    def read(self, step: int) -> dict[str, float]:
        """Return the newest values as numbers, read in one transfer, once per step.

        With replicas, each name gives the mean over them, and `<name>/sd` the standard deviation.
        """
        if self._reading.get("step") == step:
            return dict(self._reading)
        stacked: Any = torch.stack([*self.newest.values()]) if self.newest else torch.empty(0)
        rows: list[Any] = stacked.tolist()
        self._reading = {"step": step}
        for name, value in zip(self.newest, rows, strict=True):
            self._reading |= {name: value} if isinstance(value, float) else _over_replicas(name, value)
        return dict(self._reading)

    def record(self, step: int, every: int) -> None:
        """Add a reading to the history, in which the steps are multiples of a distance, apart from the newest one.

        The distance is `every`, and is doubled as often as more than `MOST_READINGS` readings would be kept otherwise.
        The reading of a last step that is no multiple is replaced by the next one, so that the history of a training
        does not depend on how often it was interrupted.

        Args:
            step: The number of the step.
            every: The number of steps between two readings.
        """
        distance = every
        while step > distance * MOST_READINGS:
            distance *= 2
        if self.history and self.history[-1]["step"] % distance:
            self.history.pop()
        if len(self.history) >= MOST_READINGS:
            self.history[:] = [row for row in self.history if not row["step"] % distance]
        if not self.history or self.history[-1]["step"] != step:
            self.history.append(self.read(step))

    def state_dict(self) -> dict[str, Any]:
        """Return the newest values and the history."""
        return {"metrics": dict(self.newest), "history": list(self.history)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from what `state_dict` returned."""
        newest, history = {name: value.to(device) for name, value in state["metrics"].items()}, list(state["history"])
        self.newest, self.history = newest, history
        self._reading = {}


def _over_replicas(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the mean and the standard deviation of a sample, with n - 1."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return {name: mean, f"{name}/sd": math.sqrt(variance)}
