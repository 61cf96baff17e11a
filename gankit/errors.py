"""The errors and warnings of gankit, and the checks of numbers that raise them.

Each error is also a built-in error, so that `except ValueError` catches a wrong value. Each message is one sentence:
which argument, what was given, what would be right.
"""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import SupportsIndex

_LARGEST_INTEGER = 2**63 - 1
_LARGEST_FLOAT = 3.4028234663852886e38
LARGEST = "at most 3.4e38, or 2^63 - 1 for an integer"
"""The limits of `is_too_large` in words, for messages."""


def printable(text: str) -> str:
    r"""Return a text in which every character that a terminal would obey is written as an escape sequence.

    These are control characters except line breaks and tabs, and the characters that change the direction of writing.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


class GankitError(Exception):
    """Base class of the errors that gankit raises.

    Args:
        message: One sentence. It may quote a file or an argument of somebody else, so it is made `printable`.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class GankitWarning(UserWarning):
    """The base of every warning that gankit issues."""


class UnknownNameError(GankitError, LookupError):
    """No part is registered under this name."""


class DuplicateNameError(GankitError, ValueError):
    """Another part already has this name."""


class BadNameError(GankitError, ValueError):
    """The name of a part is not in `snake_case`."""


class BadArgumentsError(GankitError, TypeError):
    """An argument has the wrong type, or the arguments do not match a signature."""


class BadValueError(GankitError, ValueError):
    """An argument has the right type but a value that is not allowed."""


class DeviceError(BadValueError, RuntimeError):
    """The device is unknown, or this machine does not have it."""


class ShapeError(GankitError, ValueError):
    """A tensor has the wrong shape."""


class DataError(GankitError, ValueError):
    """The data cannot be used, for example because they are empty, too few, out of range or not finite."""


class DataNotFoundError(DataError, FileNotFoundError):
    """The data are neither on disk nor could they be downloaded."""


class OutputError(GankitError, OSError):
    """A file or folder cannot be written or read."""


class OutputExistsError(OutputError, FileExistsError):
    """A file or folder already exists, and gankit does not overwrite it unless it is asked to."""


class CheckpointError(GankitError, RuntimeError):
    """A checkpoint is damaged, has another format, or does not match the training."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A folder contains no checkpoint, or only incomplete ones."""


class RecipeDiffersError(GankitError, ValueError):
    """A run cannot be continued with a recipe that is not its own."""


class DistributedError(GankitError, RuntimeError):
    """Processes that train together have lost their connection."""


class NonFiniteError(GankitError, FloatingPointError):
    """A loss, a penalty, a gradient or a weight is NaN or infinite."""


class NonFiniteDataError(DataError, NonFiniteError):
    """A batch contains NaN or infinite values."""


class DataWarning(GankitWarning):
    """Data can be used, but perhaps not as they were meant; the message says what was done with them."""


class NonFiniteWarning(GankitWarning):
    """A value was NaN or infinite, and training continues according to `on_non_finite`, or a file was not written."""


class CheckpointWarning(GankitWarning):
    """A checkpoint was skipped, or could not be written; the message says why."""


class InexactResumeWarning(GankitWarning):
    """A part of the state cannot be restored, so that training continues differently than without the interruption."""


class ReplacedSettingsWarning(GankitWarning):
    """A loaded state has replaced numbers of an optimizer that were set to other values; the message names them."""


class MissingExtraError(GankitError, ImportError):
    """An optional package is needed, but it is not installed."""


class GradientError(GankitError, RuntimeError):
    """A network cannot get its gradient, for example because an operation in it cuts gradients off."""


class CannotCaptureError(GankitError, RuntimeError):
    """A step contains an operation that cannot be compiled or captured."""


class CannotCompileError(CannotCaptureError):
    """A half of a step cannot be traced as one function of tensors; it may still be possible to capture it."""


class ExecutionWarning(GankitWarning):
    """A step cannot be run in the requested way and runs operation by operation; the message says why."""


class ConformanceError(GankitError, AssertionError):
    """A part breaks a rule for parts of its kind. The checks of `gankit.testing` raise this error.

    Args:
        message: The part, the rule, the input that broke it, and the usual cause.
        rule: The name of the rule.
    """

    def __init__(self, message: str, *, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class PluginWarning(GankitWarning):
    """An entry point of another package could not be loaded; its part is not available."""


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` with the most similar known word, or an empty string if none is similar.

    Example:
        >>> did_you_mean("hinje", ["hinge", "minimax"])
        " Did you mean 'hinge'?"
        >>> did_you_mean("zzz", ["hinge"])
        ''
    """
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def reason_of(error: BaseException) -> str:
    """Return what an error says, in one line and without the file that it may name.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.png"))
        'No such file or directory'
        >>> reason_of(IndexError())
        'IndexError'
    """
    return " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".") or type(error).__name__


def warn(message: str, category: type[GankitWarning]) -> None:
    """Issue a warning that points to the line of the caller's code that called gankit.

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
    warnings.warn(printable(message), category, stacklevel=level)


@contextmanager
def finished_by(finish: Callable[[], object]) -> Generator[None]:
    """Call a function at the end of a `with` block. If the block raises, an error of the function is only a warning.

    In a `finally` clause, the second error would take the place of the first, which says what went wrong.

    Args:
        finish: The function, which takes no arguments.

    Example:
        >>> with finished_by(lambda: print("closed")):
        ...     print("open")
        open
        closed
    """
    try:
        yield
    except BaseException:
        try:
            finish()
        except Exception as failure:  # noqa: BLE001  # anything that a file, a process or a terminal may raise
            warn(f"after an error, this failed as well: {failure}", GankitWarning)
        raise
    finish()


def is_too_large(value: object) -> bool:
    """Return whether a number is finite but too large for torch: for float32, or for an integer of 64 bits.

    Example:
        >>> is_too_large(1e30), is_too_large(1e300), is_too_large(10**30), is_too_large(float("inf"))
        (False, True, True, False)
    """
    if isinstance(value, int):
        return abs(value) > _LARGEST_INTEGER
    return isinstance(value, float) and _LARGEST_FLOAT < abs(value) < math.inf


def check_positive(name: str, value: float, *, zero: bool = False, infinite: bool = False) -> None:
    """Raise unless `value` is a number above zero (with `zero=True`, zero or above) that float32 can hold.

    Args:
        name: The name of the argument, for the message.
        value: The number.
        zero: Whether zero is allowed.
        infinite: Whether infinity is allowed, as for a bound that does not bind.

    Raises:
        BadArgumentsError: If it is not a number.
        BadValueError: If it is a number out of this range.

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
    if not infinite:
        check_finite(name, value)
    elif is_too_large(value):
        raise BadValueError(f"{name} must be {LARGEST}, got {value!r}")


def check_finite(name: str, value: float) -> None:
    """Raise unless `value` is a finite number that float32 can hold.

    Raises:
        BadArgumentsError: If it is not a number.
        BadValueError: If it is NaN, infinite or too large.

    Example:
        >>> check_finite("a", float("nan"))
        Traceback (most recent call last):
        gankit.errors.BadValueError: a must be finite, got nan
    """
    if is_too_large(value):
        raise BadValueError(f"{name} must be {LARGEST}, got {value!r}")
    try:
        is_finite = not isinstance(value, bool) and math.isfinite(value)
    except TypeError:
        is_finite = None
    if is_finite is None or isinstance(value, bool):
        raise BadArgumentsError(f"{name} must be a number, got {value!r}")
    if not is_finite:
        raise BadValueError(f"{name} must be finite, got {value!r}")


def check_count(name: str, value: int, *, zero: bool = False) -> None:
    """Raise unless `value` is an integer above zero (with `zero=True`, zero or above) of at most 64 bits.

    Raises:
        BadArgumentsError: If it is not an integer.
        BadValueError: If it is an integer out of this range.

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
    """Raise unless `seed` is an integer that torch's generators accept.

    Raises:
        BadArgumentsError: If it is not an integer.
        BadValueError: If it is an integer of more than 64 bits.

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
