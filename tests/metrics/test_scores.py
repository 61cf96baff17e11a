import math

import pytest

from gankit.errors import BadValueError
from gankit.metrics import Score


def test_a_score_shows_its_value_only_beside_that_of_real_samples():
    assert str(Score(4.3126, real=0.52, better="lower", samples=10)) == "4.313 (real 0.52, lower is better)"


@pytest.mark.parametrize(("better", "first"), [("higher", 2.0), ("lower", 1.0)])
def test_the_better_value_depends_on_the_metric(better, first):
    scores = [Score(value, real=0.0, better=better, samples=10) for value in (1.0, 2.0)]
    for one in scores:
        assert any(one.is_better_than(other) for other in scores) == (one.value == first)


def test_nan_is_worse_than_every_number_and_not_better_than_itself():
    nan, number = (Score(value, real=0.0, better="lower", samples=10) for value in (math.nan, 1e9))
    assert number.is_better_than(nan)
    assert not nan.is_better_than(number)
    assert not nan.is_better_than(nan)


@pytest.mark.parametrize("value", [1.5, math.nan, math.inf])
def test_a_score_comes_back_from_json_except_for_the_kind_of_what_is_not_finite(value):
    score = Score(value, real=0.25, better="higher", samples=7)
    again = Score.from_dict(score.to_dict())
    assert again.value == value if math.isfinite(value) else math.isnan(again.value)
    assert (again.real, again.better, again.samples) == (0.25, "higher", 7)


@pytest.mark.parametrize(("better", "samples", "named"), [("more", 10, "better"), ("lower", 0, "samples")])
def test_what_is_no_score_is_refused(better, samples, named):
    with pytest.raises(BadValueError, match=named):
        Score(1.0, real=0.0, better=better, samples=samples)
