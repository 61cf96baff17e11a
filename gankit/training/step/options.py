"""`Options`: the numbers and switches of a training, each defined here and nowhere else.

A preset inherits these fields, so that a recipe holds them too; the flags of the command line are made from them, with
the first sentence of each description below as the help. The trainer's signature repeats names, types and defaults
for the sake of editors, and a test compares the two.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from gankit.errors import BadArgumentsError, BadValueError, check_count, check_positive

Precision: TypeAlias = Literal["float32", "bfloat16", "tf32"]
Execution: TypeAlias = Literal["auto", "eager", "compile", "cuda_graph", "compile+cuda_graph"]
OnNonFinite: TypeAlias = Literal["raise", "skip", "rollback"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""The number formats in which networks can be run."""

EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
"""The ways to run a step."""

ON_NON_FINITE: tuple[OnNonFinite, ...] = get_args(OnNonFinite)
"""What can be done about a loss, a penalty, a gradient or a weight that is NaN or infinite."""

_CHOICES = {"precision": PRECISIONS, "execution": EXECUTIONS, "on_non_finite": ON_NON_FINITE}
_SWITCHES = (
    "averaging_ramp",
    "share_generator_forward",
    "simultaneous_updates",
    "concatenate_discriminator_passes",
    "synchronize_batch_norm",
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The numbers and switches that decide what one training step computes, and how it is run.

    Args:
        discriminator_steps: The number of updates of D in each step, each on a batch of its own.
        discriminator_warmup_steps: The number of first steps in which only D is trained.
        averaging_decay: The decay per step of an exponential moving average of G's weights. None keeps no average.
        averaging_ramp: Let the decay of the average grow as (1 + n) / (10 + n) with n updates, up to averaging_decay.
            Otherwise an average of few updates consists mostly of the first weights.
        max_gradient_norm: The norm to which each network's gradient is clipped. None does not clip.
        precision: The number format in which the networks are run. `float32`; `bfloat16` for autocast, with losses
            and penalties in float32; or `tf32` for tensor cores on a CUDA device, which multiply with ten bits of
            the mantissa.
        execution: How a step is run. `eager`, operation by operation; `compile`, each half compiled together with its
            gradient; `cuda_graph`, the whole step captured and replayed; `compile+cuda_graph`; or `auto`: captured
            on CUDA and eager on the CPU. A step that cannot be run in the requested way falls back with a warning.
        share_generator_forward: Generate the fakes once per step instead of twice. The last update of D and the update
            of G then see the same fakes, and BatchNorm in G counts them once.
        simultaneous_updates: Compute the gradients of D and of G from the same fakes before either is updated. This is
            how the code of Goodfellow et al. 2014 trains; their algorithm 1 updates D first. With several updates of D
            in a step, it concerns the last one.
        concatenate_discriminator_passes: Run D once on real and fake samples together in its own half. This is only
            for a D that does not mix the samples of a batch. Spectral normalisation then makes one step of its power
            method instead of two.
        on_non_finite: What to do about a loss, a penalty, a gradient, a weight or data that is NaN or infinite. `raise`
            an error; `skip` each update whose loss or gradient is not finite, with a warning; or `rollback` to the
            newest checkpoint of the `Checkpointer` among the callbacks, halve both learning rates, and continue with
            a warning.
        synchronize_batch_norm: Let BatchNorm see the samples of all processes that train together. Otherwise it sees
            those of its own process.

    Raises:
        BadValueError: for a number that is out of range, or a choice that does not exist.
        BadArgumentsError: for a switch that is not True or False.

    Example:
        >>> Options(discriminator_steps=5).averaging_decay is None
        True
        >>> Options(precision="float8")
        Traceback (most recent call last):
        gankit.errors.BadValueError: precision must be one of float32, bfloat16, tf32, got 'float8'
    """

    discriminator_steps: int = 1
    discriminator_warmup_steps: int = 0
    averaging_decay: float | None = None
    averaging_ramp: bool = True
    max_gradient_norm: float | None = None
    precision: Precision = "float32"
    execution: Execution = "auto"
    share_generator_forward: bool = False
    simultaneous_updates: bool = False
    concatenate_discriminator_passes: bool = False
    on_non_finite: OnNonFinite = "raise"
    synchronize_batch_norm: bool = False

    @property
    def has_shared_fakes(self) -> bool:
        """Whether the last update of D in a step and the update of G see the same fakes."""
        return self.share_generator_forward or self.simultaneous_updates

    def __post_init__(self) -> None:
        check_count("discriminator_steps", self.discriminator_steps)
        check_count("discriminator_warmup_steps", self.discriminator_warmup_steps, zero=True)
        if self.averaging_decay is not None:
            check_averaging_decay(self.averaging_decay)
        if self.max_gradient_norm is not None:
            check_positive("max_gradient_norm", self.max_gradient_norm, infinite=True)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise BadValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise BadArgumentsError(f"{name} must be True or False, got {getattr(self, name)!r}")


OPTION_NAMES: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Options))
"""The names of all options, in order."""


def check_averaging_decay(decay: object) -> None:
    """Raise `BadValueError` unless the decay of an average is a number in [0, 1).

    Example:
        >>> check_averaging_decay(1.0)
        Traceback (most recent call last):
        gankit.errors.BadValueError: averaging_decay must be in [0, 1), got 1.0
    """
    if not isinstance(decay, (int, float)) or isinstance(decay, bool) or not 0 <= decay < 1:
        raise BadValueError(f"averaging_decay must be in [0, 1), got {decay!r}")
