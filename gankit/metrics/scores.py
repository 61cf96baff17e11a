"""`Score`: one figure of the quality of samples, and what real samples score in the same test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from gankit.errors import BadValueError, check_count
from gankit.files import finite_or_none

Better = Literal["higher", "lower"]
"""Whether a higher or a lower value is better."""


@dataclass(frozen=True)
class Score:
    """One figure of the quality of samples, beside the figure of real samples.

    A value means little alone: it depends on the number of samples, and real samples do not reach the best value
    either. So a score always has what real samples reach with the same count and the same code, the *noise floor* of
    the metric, and whoever shows the value shows both.

    Args:
        value: The figure of the generated samples. It may be NaN, as that of samples that are not finite.
        real: The same figure of real samples in place of the generated ones.
        better: Whether a higher or a lower value is better.
        samples: The number of generated samples, and of the real samples in their place.

    Raises:
        BadValueError: For another `better`, or a number of samples below 1.

    Example:
        >>> print(Score(4.31, real=0.52, better="lower", samples=2000))
        4.31 (real 0.52, lower is better)
    """

    value: float
    real: float
    better: Better
    samples: int

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise BadValueError(f"better must be 'higher' or 'lower', got {self.better!r}")
        check_count("samples", self.samples)

    def __str__(self) -> str:
        return f"{self.value:.4g} (real {self.real:.4g}, {self.better} is better)"

    def is_better_than(self, other: Score) -> bool:
        """Return whether this value is better than that of another score of the same metric. NaN is never better.

        Example:
            >>> low, high = (Score(value, real=0.0, better="lower", samples=10) for value in (1.0, 2.0))
            >>> low.is_better_than(high), high.is_better_than(low)
            (True, False)
        """
        if math.isnan(other.value):
            return not math.isnan(self.value)
        return self.value > other.value if self.better == "higher" else self.value < other.value

    def to_dict(self) -> dict[str, Any]:
        """Return the score in plain containers that JSON can hold. A value that is not finite becomes None.

        Example:
            >>> Score(float("nan"), real=0.5, better="lower", samples=10).to_dict()
            {'value': None, 'real': 0.5, 'better': 'lower', 'samples': 10}
        """
        numbers = finite_or_none({"value": self.value, "real": self.real})
        return {**numbers, "better": self.better, "samples": self.samples}

    @classmethod
    def from_dict(cls, form: Mapping[str, Any]) -> Score:
        """Return the score that `to_dict` described. None becomes NaN.

        Example:
            >>> Score.from_dict({"value": None, "real": 0.5, "better": "lower", "samples": 10}).value
            nan
        """
        value, real = (math.nan if form[name] is None else float(form[name]) for name in ("value", "real"))
        return cls(value, real, form["better"], form["samples"])


class Evaluator(Protocol):
    """Something that scores generated samples, such as `MnistEvaluator`.

    Attributes:
        samples: The number of samples that it scores. It is fixed, because several metrics depend on it.
    """

    @property
    def samples(self) -> int:
        """The number of samples that it scores."""
        ...

    def __call__(self, samples: Tensor) -> dict[str, Score]:
        """Return the scores by the names of their metrics, the most telling one first.

        Args:
            samples: The generated samples, `(samples, *sample_shape)`, on any device.
        """
        ...
