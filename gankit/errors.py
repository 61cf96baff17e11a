"""Every error that gankit raises on purpose.

Each one also derives from the built-in error a person would expect, so that `except ValueError` keeps
working, and each message is one sentence: which argument, what was given, what would be right.
"""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import warnings
from collections.abc import Iterable
from typing import SupportsIndex

_LARGEST_INTEGER = 2**63 - 1
_LARGEST_FLOAT = 3.4028234663852886e38
LARGEST = "at most 3.4e38, or 2^63 - 1 for an integer"
"""What `is_too_large` holds numbers against, in words."""


class GankitError(Exception):
    """The base of every error gankit raises on purpose."""


class GankitWarning(UserWarning):
    """The base of every warning that gankit issues."""


class UnknownNameError(GankitError, LookupError):
    """No part is registered under this name."""


class DuplicateNameError(GankitError, ValueError):
    """Another part already has this name."""


class BadNameError(GankitError, ValueError):
    """A part's name is not `snake_case`."""


class BadArgumentsError(GankitError, TypeError):
    """The arguments do not fit the signature of what they were meant for."""


class BadValueError(GankitError, ValueError):
    """An argument has the right type and an impossible value."""


class DeviceError(BadValueError, RuntimeError):
    """The device is unknown or not available on this machine."""


class ShapeError(GankitError, ValueError):
    """A tensor has the wrong shape."""


class DataError(GankitError, ValueError):
    """The training data cannot be used: empty, too small, out of range or not finite."""


class DataNotFoundError(DataError, FileNotFoundError):
    """The training data is neither on the disk nor to be had from the network."""


class OutputError(GankitError, OSError):
    """A file or folder cannot be written or read."""


class OutputExistsError(OutputError, FileExistsError):
    """Something is already there, and gankit does not overwrite it without being asked."""


class CheckpointError(GankitError, RuntimeError):
    """A checkpoint is damaged, of another format, or does not fit."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A folder holds no checkpoint, or none that is whole."""


class RecipeDiffersError(GankitError, ValueError):
    """A run is to be continued by another recipe than its own."""


class DistributedError(GankitError, RuntimeError):
    """Processes that train together have lost each other."""


class NonFiniteError(GankitError, FloatingPointError):
    """A loss, a penalty, a gradient or a weight is NaN or infinite."""


class NonFiniteDataError(DataError, NonFiniteError):
    """A batch held NaN or infinite values."""


class NonFiniteWarning(GankitWarning):
    """Something was NaN or infinite, and training goes on as it was asked to; the message says how."""


class CheckpointWarning(GankitWarning):
    """A checkpoint was skipped, or could not be written; the reason is in the message."""


class InexactResumeWarning(GankitWarning):
    """Something cannot be restored, so that training goes on otherwise than if it had never stopped."""


class MissingExtraError(GankitError, ImportError):
    """An optional package is needed here and not installed."""


class CannotCaptureError(GankitError, RuntimeError):
    """A step, or a half of one, does something that a compiled or captured one cannot hold."""


class CannotCompileError(CannotCaptureError):
    """A half of a step cannot be traced as one function of tensors; it may still be captured."""


class ExecutionWarning(GankitWarning):
    """A step could not be run as it was asked for, and runs operation by operation; the reason is in the message."""


class ConformanceError(GankitError, AssertionError):
    """A part breaks a rule of its kind; raised by the checks of `gankit.testing`.

    Args:
        message: the part, the rule, the input that broke it, and the usual cause.
        rule: the rule's name.
    """

    def __init__(self, message: str, *, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class PluginWarning(GankitWarning):
    """A third party's entry point could not be loaded; everything else goes on."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known word, or nothing where none is near.

    Example:
        >>> did_you_mean("hinje", ["hinge", "minimax"])
        " Did you mean 'hinge'?"
        >>> did_you_mean("zzz", ["hinge"])
        ''
    """
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def warn(message: str, category: type[GankitWarning]) -> None:
    """Warn, and name the line outside gankit from which all this was called.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn("careful", CheckpointWarning)
        >>> caught[0].category.__name__
        'CheckpointWarning'
    """
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "gankit":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def is_too_large(value: object) -> bool:
    """Tell whether a number is finite and too large for torch: for a float32, or for an integer of 64 bits.

    Example:
        >>> is_too_large(1e30), is_too_large(1e300), is_too_large(10**30), is_too_large(float("inf"))
        (False, True, True, False)
    """
    if isinstance(value, int):
        return abs(value) > _LARGEST_INTEGER
    return isinstance(value, float) and _LARGEST_FLOAT < abs(value) < math.inf


def check_positive(name: str, value: float, *, zero: bool = False) -> None:
    """Raise unless `value` is a number above zero (or zero, with `zero=True`) that a float can hold.

    Raises:
        BadArgumentsError: for something that is no number.
        BadValueError: for another number.

    Example:
        >>> check_positive("weight", 0)
        Traceback (most recent call last):
        gankit.errors.BadValueError: weight must be above 0, got 0
        >>> check_positive("weight", "much")
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: weight must be a number, got 'much'
    """
    try:
        fits = not isinstance(value, bool) and bool(value >= 0 if zero else value > 0)
    except TypeError:
        fits = None
    if fits is None or isinstance(value, bool):
        raise BadArgumentsError(f"{name} must be a number, got {value!r}")
    if not fits:  # also NaN
        bound = "0 or more" if zero else "above 0"
        raise BadValueError(f"{name} must be {bound}, got {value!r}")
    if is_too_large(value):
        raise BadValueError(f"{name} must be {LARGEST}, got {value!r}")


def check_count(name: str, value: int, *, zero: bool = False) -> None:
    """Raise unless `value` is an integer above zero (or zero, with `zero=True`) that torch can count to.

    Raises:
        BadArgumentsError: for something that is no integer.
        BadValueError: for another integer.

    Example:
        >>> check_count("steps", 0)
        Traceback (most recent call last):
        gankit.errors.BadValueError: steps must be above 0, got 0
        >>> check_count("steps", 2.5)
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: steps must be an integer, got 2.5
    """
    check_positive(name, _as_integer(name, value), zero=zero)


def check_seed(seed: int) -> None:
    """Raise unless `seed` is an integer that torch's generators take.

    Raises:
        BadArgumentsError: for something that is no integer.
        BadValueError: for an integer of more than 64 bits.

    Example:
        >>> check_seed("zero")
        Traceback (most recent call last):
        gankit.errors.BadArgumentsError: seed must be an integer, got 'zero'
    """
    number = _as_integer("seed", seed)
    if not -(2**63) <= number < 2**63:
        raise BadValueError(f"seed must be from -2^63 to 2^63 - 1, got {seed!r}")


def _as_integer(name: str, value: SupportsIndex) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise BadArgumentsError(f"{name} must be an integer, got {value!r}")
