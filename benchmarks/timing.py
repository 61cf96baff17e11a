"""Interleaved timing: what is compared runs in turn, so that a machine that slows down slows all of it down."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(
    contenders: Mapping[str, Callable[[], object]], device: torch.device, *, rounds: int, calls: int, warmup: int
) -> dict[str, list[float]]:
    """Return, for each contender, seconds a call in each round."""

    def run(step: Callable[[], object], count: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / count

    for step in contenders.values():
        run(step, warmup)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        # each goes first in turn
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds[name].append(run(contenders[name], calls))
    return seconds


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third quartile."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
