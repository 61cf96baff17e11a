"""Interleaved timing: contenders run in turn, so that a machine that slows down slows all of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Contender = Callable[[int], float | None]
"""A function that makes a given number of steps. It returns None, or the seconds that the steps took if it measures
them itself, for example because it has to start something before them."""

DEFAULT, PASSIVE = "default", "PASSIVE"
"""How OpenMP's threads wait on a CPU: they spin for a while, or they sleep."""


def wait_policy() -> str:
    """Return how OpenMP's threads wait in this process: the value of `OMP_WAIT_POLICY`, or `default`."""
    return os.environ.get("OMP_WAIT_POLICY", DEFAULT)


def seconds_per_step(run: Contender, steps: int, device: torch.device) -> float:
    """Return the seconds per step of a contender: measured by CUDA events on a GPU, and by the clock on a CPU."""
    if device.type == "cuda":
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        first.record()
        own = run(steps)
        last.record()
        torch.cuda.synchronize()
        seconds = first.elapsed_time(last) / 1e3
    else:
        start = time.perf_counter()
        own = run(steps)
        seconds = time.perf_counter() - start
    return (seconds if own is None else own) / steps


def order(names: Sequence[str], number: int) -> list[str]:
    """Return the order of the contenders in a round. Each of them goes first in turn.

    Example:
        >>> [order(["a", "b", "c"], number) for number in range(2)]
        [['a', 'b', 'c'], ['b', 'c', 'a']]
    """
    start = number % len(names)
    return [*names[start:], *names[:start]]


def interleaved(
    contenders: Mapping[str, Contender],
    device: torch.device,
    *,
    rounds: int,
    steps: Mapping[str, int],
) -> dict[str, list[float]]:
    """Return for each contender the seconds per step in each round.

    Args:
        contenders: The contenders by name.
        device: The device on which they run.
        rounds: The number of rounds. In each round, every contender runs once.
        steps: The number of steps that each contender makes in a round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in order(list(contenders), number):
            seconds[name].append(seconds_per_step(contenders[name], steps[name], device))
    return seconds


def steps_that_fit(seconds: float, budget: float, least: int, most: int) -> int:
    """Return how many steps fit into a time, but at least `least` and at most `most`.

    Example:
        >>> steps_that_fit(0.01, 0.5, 2, 400), steps_that_fit(3.0, 0.5, 2, 400)
        (50, 2)
    """
    return max(least, min(most, int(budget / max(seconds, 1e-9))))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third quartile. Those of a single value are the value.

    Example:
        >>> spread([4.0, 1.0, 2.0, 3.0, 5.0]), spread([4.0])
        ((2.0, 3.0, 4.0), (4.0, 4.0, 4.0))
    """
    if len(values) == 1:  # which Python refuses before 3.13
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(theirs: Sequence[float], ours: Sequence[float], work: float = 1.0) -> list[float]:
    """Return for each round how many times as fast `ours` is.

    Args:
        theirs: The seconds per step of the others in each round.
        ours: Our seconds per step in the same rounds.
        work: The number of their steps that do the work of one of ours, such as the number of replicas.

    Example:
        >>> ratios([2.0, 3.0], [1.0, 2.0])
        [2.0, 1.5]
    """
    return [work * their / our for their, our in zip(theirs, ours, strict=True)]
