"""Every error of gankit is also a built-in error, and numbers are checked."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch

from gankit import errors
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    GankitError,
    GankitWarning,
    PluginWarning,
    check_count,
    check_finite,
    check_positive,
    check_seed,
    did_you_mean,
    finished_by,
)

CLASSES = {name: one for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
ERRORS = {name: one for name, one in CLASSES.items() if not issubclass(one, Warning)}

BUILT_IN = {
    "UnknownNameError": LookupError,
    "DuplicateNameError": ValueError,
    "BadNameError": ValueError,
    "BadArgumentsError": TypeError,
    "BadValueError": ValueError,
    "DeviceError": RuntimeError,
    "ShapeError": ValueError,
    "DataError": ValueError,
    "DataNotFoundError": FileNotFoundError,
    "OutputError": OSError,
    "OutputExistsError": FileExistsError,
    "MissingExtraError": ImportError,
    "ConformanceError": AssertionError,
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_a_gankit_error_with_a_sentence_of_its_own(name):
    assert issubclass(ERRORS[name], GankitError)
    assert ERRORS[name].__doc__


@pytest.mark.parametrize("name", sorted(ERRORS.keys() - {"GankitError"}))
def test_every_error_is_also_a_built_in_one(name):
    bases = {base for base in ERRORS[name].__mro__ if base.__module__ == "builtins"}
    assert bases - {Exception, BaseException, object}


@pytest.mark.parametrize(("name", "built_in"), BUILT_IN.items())
def test_the_expected_except_clause_catches_it(name, built_in):
    with pytest.raises(built_in, match="what went wrong"):
        raise ERRORS[name]("what went wrong")


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [("DeviceError", "BadValueError"), ("DataNotFoundError", "DataError"), ("OutputExistsError", "OutputError")],
)
def test_a_narrow_error_is_caught_with_the_wide_one(narrow, wide):
    assert issubclass(ERRORS[narrow], ERRORS[wide])


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - ERRORS.keys()))
def test_every_warning_is_a_gankit_warning(name):
    assert issubclass(CLASSES[name], GankitWarning)


def test_the_plugin_warning_is_a_warning_and_no_error():
    assert issubclass(PluginWarning, GankitWarning)
    assert issubclass(GankitWarning, UserWarning)
    assert not issubclass(PluginWarning, GankitError)


def test_the_nearest_word_is_proposed_and_a_far_one_is_not():
    assert did_you_mean("wieght", ["every", "weight"]) == " Did you mean 'weight'?"
    assert did_you_mean("wieght", ["momentum"]) == ""
    assert did_you_mean("wieght", []) == ""


@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan])
def test_what_is_not_positive_is_refused_with_the_name_and_the_value(value):
    with pytest.raises(BadValueError, match=rf"^steps must be above 0, got {value}$"):
        check_positive("steps", value)


@pytest.mark.parametrize("value", [-1, -1e-9, math.nan])
def test_zero_passes_where_it_is_allowed_and_less_does_not(value):
    check_positive("weight", 0, zero=True)
    with pytest.raises(BadValueError, match=rf"^weight must be 0 or more, got {value}$"):
        check_positive("weight", value, zero=True)


@pytest.mark.parametrize("value", [1, 1e-9, np.float32(1.5), torch.tensor(2.0)])
def test_what_is_positive_passes(value):
    check_positive("steps", value)


def test_infinity_passes_only_where_it_is_allowed():
    check_positive("max_gradient_norm", math.inf, infinite=True)
    with pytest.raises(BadValueError, match="^weight must be finite, got inf$"):
        check_positive("weight", math.inf)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value):
    check_finite("a", -1.0)
    with pytest.raises(BadValueError, match=f"^a must be finite, got {value}$"):
        check_finite("a", value)


@pytest.mark.parametrize("value", [None, "1", True, (1,), 1j], ids=repr)
def test_what_is_no_number_is_refused_as_an_argument(value):
    with pytest.raises(BadArgumentsError, match="^weight must be a number, got "):
        check_positive("weight", value)


@pytest.mark.parametrize("value", [2**63, 10**400, 1e300], ids=["2^63", "10^400", "1e300"])
def test_a_number_too_large_for_torch_is_refused(value):
    with pytest.raises(BadValueError, match="^weight must be at most "):
        check_positive("weight", value)


@pytest.mark.parametrize("value", [None, "1", True, 1.0, math.nan, (1,)], ids=repr)
def test_a_count_is_an_integer(value):
    with pytest.raises(BadArgumentsError, match="^steps must be an integer, got "):
        check_count("steps", value)


@pytest.mark.parametrize("value", [0, -1, 2**63])
def test_a_count_is_above_zero_and_one_that_torch_can_count_to(value):
    with pytest.raises(BadValueError, match=f"^steps must be .*, got {value}$"):
        check_count("steps", value)
    check_count("steps", 2**63 - 1)
    check_count("steps", 0, zero=True)


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_a_seed_that_passes_is_one_torch_takes(seed):
    check_seed(seed)
    torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("seed", "error"),
    [
        ("0", BadArgumentsError),
        (None, BadArgumentsError),
        (True, BadArgumentsError),
        (0.5, BadArgumentsError),
        (2**63, BadValueError),
        (-(2**63) - 1, BadValueError),
    ],
)
def test_another_seed_is_refused(seed, error):
    with pytest.raises(error, match="^seed must be "):
        check_seed(seed)


def fail(error):
    raise error


def test_an_error_at_the_end_does_not_take_the_place_of_the_first():
    with (
        pytest.warns(GankitWarning, match="^after an error, this failed as well: the disk is full$"),
        pytest.raises(KeyError, match="first"),
        finished_by(lambda: fail(OSError("the disk is full"))),
    ):
        fail(KeyError("first"))


def test_an_error_at_the_end_of_a_block_without_one_is_raised():
    with pytest.raises(OSError, match="the disk is full"), finished_by(lambda: fail(OSError("the disk is full"))):
        pass


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_a_block_is_finished_once(error):
    finished = []
    with contextlib.suppress(KeyboardInterrupt), finished_by(lambda: finished.append(1)):
        if error is not None:
            raise error
    assert finished == [1]
