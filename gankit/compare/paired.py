"""Differences between two variants, paired by seed: mean, 95 % interval, and whether they are better or worse."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gankit.errors import BadValueError, check_count
from gankit.files import finite_or_none
from gankit.metrics import Better

Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Difference:
    """How a metric of one variant differs from that of another one, seed by seed.

    Args:
        seeds: The number of seeds on which both were trained.
        mean: The mean of the differences, in the unit of the metric. NaN if a training diverged, or for no seeds.
        low: The lower end of the 95 % interval of the mean. NaN if a training diverged, or for fewer than two seeds.
        high: The upper end.
        verdict: Whether the interval is on one side of zero, and on which.
    """

    seeds: int
    mean: float
    low: float
    high: float
    verdict: Verdict

    @property
    def verdict_in_words(self) -> str:
        """The verdict, with the number of seeds if they do not suffice.

        Example:
            >>> paired_difference([1.0], [2.0], "lower").verdict_in_words
            'cannot tell on 1 seed'
        """
        if self.verdict != "cannot tell":
            return self.verdict
        return f"cannot tell on {self.seeds} seed{'' if self.seeds == 1 else 's'}"

    def to_dict(self) -> dict[str, Any]:
        """Return the difference in plain containers that JSON can hold. A number that is not finite becomes None."""
        numbers = finite_or_none({"mean": self.mean, "low": self.low, "high": self.high})
        return {"seeds": self.seeds, **numbers, "verdict": self.verdict}


def paired_difference(values: Sequence[float], baseline: Sequence[float], better: Better) -> Difference:
    """Return how values differ from those of a baseline on the same seeds.

    Formula, with d_i the difference on seed i, their mean m and their sample standard deviation s over n seeds:
    `m -+ t s / sqrt(n)`, where t is the 97.5 % quantile of Student's distribution with n - 1 degrees of freedom
    (Student 1908, "The probable error of a mean"). The part of the spread that both share, such as that of the initial
    weights, cancels out. The interval assumes that the differences are about normal. If all are equal, as differences
    of small integers can be, it has no width.

    A value that is not finite is that of a training that diverged, which is worse than any number. The verdict is then
    the limit of the one for an ever worse number in its place: differences between finite values count as zero beside
    it, and so does a seed on which both diverged.

    Args:
        values: The values, one per seed.
        baseline: The values of the baseline on the same seeds.
        better: Whether a higher or a lower value is better.

    Raises:
        BadValueError: For different numbers of values.

    Example:
        >>> difference = paired_difference([12.1, 9.0, 15.2, 11.1], [11.0, 8.1, 14.0, 10.1], "higher")
        >>> f"{difference.mean:.2f} [{difference.low:.2f}, {difference.high:.2f}] {difference.verdict_in_words}"
        '1.05 [0.84, 1.26] better'
        >>> paired_difference([0.2, float("nan"), 0.3], [0.2, 0.1, 0.2], "lower").verdict_in_words
        'cannot tell on 3 seeds'
    """
    if len(values) != len(baseline):
        raise BadValueError(f"values must be as many as those of the baseline, got {len(values)} and {len(baseline)}")
    count, sign = len(values), 1 if better == "higher" else -1
    pairs = list(zip(values, baseline, strict=True))
    if all(math.isfinite(one) for pair in pairs for one in pair):
        mean, low, high = _interval([value - other for value, other in pairs])
        return Difference(count, mean, low, high, _verdict(sign * low, sign * high))
    _, low, high = _interval([float(math.isfinite(value)) - math.isfinite(other) for value, other in pairs])
    return Difference(count, math.nan, math.nan, math.nan, _verdict(low, high))


def student_quantile(degrees: int, confidence: float = 0.95) -> float:
    """Return the t for which Student's distribution lies in [-t, t] with the given probability.

    The probability is a finite sum (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4), which bisection solves for t.

    Args:
        degrees: The degrees of freedom, 1 or more.
        confidence: The probability, in (0, 1).

    Raises:
        BadValueError: For a number out of range.

    Example:
        >>> round(student_quantile(4), 3)
        2.776
    """
    check_count("degrees", degrees)
    if not 0 < confidence < 1:
        raise BadValueError(f"confidence must be between 0 and 1, got {confidence!r}")
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(degrees)
    for _ in range(60):  # to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _probability(middle, degrees) < confidence else (low, middle)
    return math.tan(high) * math.sqrt(degrees)


def _probability(angle: float, degrees: int) -> float:
    is_odd = degrees % 2 == 1
    term = math.cos(angle) if is_odd else 1.0
    total = 0.0 if degrees == 1 else term
    for k in range(3 if is_odd else 2, degrees - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total


def _interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and the ends of its 95 % interval."""
    count = len(differences)
    mean = statistics.fmean(differences) if count else math.nan
    if count < 2:
        return mean, math.nan, math.nan
    margin = student_quantile(count - 1) * statistics.stdev(differences) / math.sqrt(count)
    return mean, mean - margin, mean + margin


def _verdict(one: float, other: float) -> Verdict:
    """Return the verdict for the ends of an interval whose positive side is the better one. NaN tells nothing."""
    if min(one, other) > 0:
        return "better"
    return "worse" if max(one, other) < 0 else "cannot tell"
