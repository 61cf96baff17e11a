"""Interleaved timing: what is compared runs in turn, so that a machine that slows down slows all of it down."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Contender = Callable[[int], float | None]
"""Makes so many steps. It returns the seconds they took where it has to start something before them, else None."""

DEFAULT, PASSIVE = "default", "PASSIVE"
"""How OpenMP's threads wait on a CPU: they spin for a while, or they sleep."""


def wait_policy() -> str:
    """Return how OpenMP's threads wait in this process: the value of `OMP_WAIT_POLICY`, or `default`."""
    return os.environ.get("OMP_WAIT_POLICY", DEFAULT)


def seconds_a_step(run: Contender, steps: int, device: torch.device) -> float:
    """Let a contender make `steps` steps; return the seconds a step: by CUDA events on a GPU, else by the clock."""
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
    """Return the order in a round: each goes first in turn.

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
    """Return, for each contender, the seconds a step in each round.

    Args:
        contenders: by name.
        device: where they run.
        rounds: in each of them every contender runs once.
        steps: how many steps a contender makes in a round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in order(list(contenders), number):
            seconds[name].append(seconds_a_step(contenders[name], steps[name], device))
    return seconds


def steps_that_fit(seconds: float, budget: float, least: int, most: int) -> int:
    """Return how many steps of `seconds` each fit into `budget` seconds, from `least` to `most`.

    Example:
        >>> steps_that_fit(0.01, 0.5, 2, 400), steps_that_fit(3.0, 0.5, 2, 400)
        (50, 2)
    """
    return max(least, min(most, int(budget / max(seconds, 1e-9))))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third quartile.

    Example:
        >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
        (2.0, 3.0, 4.0)
    """
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(theirs: Sequence[float], ours: Sequence[float], work: float = 1.0) -> list[float]:
    """Return round by round how many times as fast `ours` is.

    Args:
        theirs: seconds a step in each round.
        ours: likewise, of the same rounds.
        work: how many of their steps one of ours is worth: the number of replicas, say.

    Example:
        >>> ratios([2.0, 3.0], [1.0, 2.0])
        [2.0, 1.5]
    """
    return [work * their / our for their, our in zip(theirs, ours, strict=True)]
