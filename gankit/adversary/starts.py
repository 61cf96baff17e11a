"""When the two halves of an adversarial term begin, and how often they are due."""

from __future__ import annotations

from dataclasses import dataclass

from gankit.errors import BadValueError, GankitWarning, check_count, warn
from gankit.protocols import Half

HEAD_START_STEPS = 1000
"""By how many steps D's training begins before the generator's term if `discriminator_start` is not given."""


@dataclass(frozen=True)
class Starts:
    """The steps in which each half is due.

    A generator's term with a discriminator that was never trained is a random gradient of full strength. Therefore D
    begins `HEAD_START_STEPS` steps before the generator's term by default, or at step 0 if the term begins earlier
    than that.

    Args:
        generator_start: The first step of the generator's term.
        generator_ramp_steps: The number of steps in which the generator's term grows linearly to its full weight.
        discriminator_start: The first step of D's training. None for the default.
        discriminator_every: D is trained in every `discriminator_every`-th step from its start on.

    Raises:
        BadValueError: for a number that is not an integer in its range.

    Example:
        >>> starts = Starts(generator_start=20_000, generator_ramp_steps=10)
        >>> starts.first("discriminator"), starts.is_due("generator", 19_999), starts.share(20_004)
        (19000, False, 0.5)
    """

    generator_start: int = 0
    generator_ramp_steps: int = 0
    discriminator_start: int | None = None
    discriminator_every: int = 1

    def __post_init__(self) -> None:
        check_count("generator_start", self.generator_start, zero=True)
        check_count("generator_ramp_steps", self.generator_ramp_steps, zero=True)
        check_count("discriminator_every", self.discriminator_every)
        if self.discriminator_start is None:
            return
        check_count("discriminator_start", self.discriminator_start, zero=True)
        if self.discriminator_start >= self.generator_start > 0:
            warn(
                f"the generator's term begins at step {self.generator_start} with a discriminator that was never "
                f"trained; let D begin earlier, such as at discriminator_start="
                f"{max(0, self.generator_start - HEAD_START_STEPS)}",
                GankitWarning,
            )

    @property
    def depend_on_step(self) -> bool:
        """Whether anything is different in another step."""
        return self != Starts()

    def first(self, half: Half) -> int:
        """Return the first step of a half."""
        if half == "generator":
            return self.generator_start
        if self.discriminator_start is None:
            return max(0, self.generator_start - HEAD_START_STEPS)
        return self.discriminator_start

    def is_due(self, half: Half, step: int) -> bool:
        """Return whether a half is due in a step, counted from 0."""
        check_count("step", step, zero=True)
        if half not in ("discriminator", "generator"):
            raise BadValueError(f"half must be 'discriminator' or 'generator', got {half!r}")
        since = step - self.first(half)
        return since >= 0 and (half == "generator" or since % self.discriminator_every == 0)

    def share(self, step: int) -> float:
        """Return the share of its full weight that the generator's term has in a step, in [0, 1]."""
        since = step - self.generator_start
        if since < 0:
            return 0.0
        return min(1.0, (since + 1) / self.generator_ramp_steps) if self.generator_ramp_steps else 1.0
