"""Differences paired by seed, held against published values and against what a diverged training means."""

from __future__ import annotations

import json
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gankit.compare.paired import paired_difference, student_quantile
from gankit.errors import BadArgumentsError, BadValueError

NAN = math.nan

# Student 1908, table of section IX: additional hours of sleep of ten patients with each of two drugs; the interval is
# the one that R's t.test(paired=TRUE) prints for its copy of these data
FIRST_DRUG = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND_DRUG = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


# --- Student's distribution ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    # NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, the column of 0.975
    [
        *((1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (6, 2.447), (7, 2.365), (8, 2.306), (9, 2.262)),
        *((10, 2.228), (15, 2.131), (20, 2.086), (29, 2.045), (30, 2.042), (60, 2.000), (100, 1.984)),
    ],
)
def test_quantiles_are_those_of_the_published_table(degrees, quantile):
    assert round(student_quantile(degrees), 3) == quantile


@pytest.mark.parametrize(
    ("degrees", "confidence", "quantile"), [(4, 0.90, 2.132), (4, 0.99, 4.604), (9, 0.99, 3.250), (1, 0.80, 3.078)]
)
def test_quantiles_of_other_probabilities(degrees, confidence, quantile):
    assert round(student_quantile(degrees, confidence), 3) == quantile


def test_closed_forms_of_one_and_two_degrees_and_the_normal_limit():
    for confidence in (0.5, 0.95, 0.999):
        assert student_quantile(1, confidence) == pytest.approx(math.tan(math.pi / 2 * confidence), rel=1e-12)
        exact = confidence * math.sqrt(2 / (1 - confidence**2))
        assert student_quantile(2, confidence) == pytest.approx(exact, rel=1e-12)
        normal = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
        assert student_quantile(100_000, confidence) == pytest.approx(normal, rel=1e-4)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(BadValueError, match="degrees must be above 0, got 0"):
        student_quantile(0)
    with pytest.raises(BadArgumentsError, match="degrees must be an integer, got 1.5"):
        student_quantile(1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadValueError, match=r"confidence must be between 0 and 1, got 1.0"):
        student_quantile(3, 1.0)


# --- differences -----------------------------------------------------------------------------------------


def test_the_interval_is_that_of_a_published_example():
    found = paired_difference(SECOND_DRUG, FIRST_DRUG, "higher")
    assert found.mean == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert (found.seeds, found.verdict_in_words) == (10, "better")
    assert paired_difference(SECOND_DRUG, FIRST_DRUG, "lower").verdict == "worse"


def test_pairing_finds_an_effect_that_is_smaller_than_the_spread_over_seeds():
    found = paired_difference(SECOND_DRUG, FIRST_DRUG, "higher")
    spread = math.hypot(statistics.stdev(FIRST_DRUG), statistics.stdev(SECOND_DRUG)) / math.sqrt(10)
    assert found.mean < student_quantile(18) * spread  # without pairing, the interval contains zero
    shuffled = paired_difference(SECOND_DRUG, sorted(FIRST_DRUG, reverse=True), "higher")
    assert shuffled.mean == pytest.approx(found.mean)
    assert (found.verdict, shuffled.verdict) == ("better", "cannot tell")


def test_equal_variants_are_told_apart_on_one_comparison_in_twenty():
    rng = random.Random(0)
    verdicts = [
        paired_difference([rng.gauss(0, 1) for _ in range(5)], [rng.gauss(0, 1) for _ in range(5)], "higher").verdict
        for _ in range(2000)
    ]
    wrong = sum(verdict != "cannot tell" for verdict in verdicts)
    assert abs(wrong - 100) < 3 * math.sqrt(2000 * 0.05 * 0.95)


@pytest.mark.parametrize(
    ("values", "baseline", "says"),
    [
        ([], [], "cannot tell on 0 seeds"),
        ([9.0], [1.0], "cannot tell on 1 seed"),
        ([NAN], [1.0], "cannot tell on 1 seed"),
        ([9.0, 8.0], [1.0, 2.0], "cannot tell on 2 seeds"),
        ([9.0, 9.1], [1.0, 1.0], "better"),
        ([1.0, 2.0], [1.0, 2.0], "cannot tell on 2 seeds"),
        ([7.0, 7.0, 7.0], [8.0, 8.0, 8.0], "worse"),  # equal differences
        # of five trainings against five sound ones, so many diverged
        ([NAN, 1.1, 1.2, 1.3, 1.4], [1.0] * 5, "cannot tell on 5 seeds"),
        ([NAN, NAN, NAN, 1.3, 1.4], [1.0] * 5, "cannot tell on 5 seeds"),
        ([NAN, NAN, NAN, NAN, 1.4], [1.0] * 5, "worse"),
        ([NAN] * 5, [1.0] * 5, "worse"),
        ([1.0] * 5, [math.inf] * 5, "better"),
        ([NAN] * 5, [NAN] * 5, "cannot tell on 5 seeds"),
        ([NAN, NAN, 1.0, 1.0], [1.0, 1.0, NAN, NAN], "cannot tell on 4 seeds"),
    ],
)
def test_the_verdict_in_words(values, baseline, says):
    assert paired_difference(values, baseline, "higher").verdict_in_words == says


def test_a_diverged_training_leaves_no_mean_and_no_interval():
    found = paired_difference([NAN] * 5, [1.0] * 5, "lower")
    assert math.isnan(found.mean)
    assert json.loads(json.dumps(found.to_dict())) == {
        "seeds": 5,
        "mean": None,
        "low": None,
        "high": None,
        "verdict": "worse",
    }


def test_as_many_values_as_those_of_the_baseline():
    with pytest.raises(BadValueError, match="got 1 and 2"):
        paired_difference([1.0], [1.0, 2.0], "lower")


numbers = st.floats(-100, 100) | st.just(NAN)
pairs = st.lists(st.tuples(numbers, numbers), max_size=8)
OPPOSITE = {"better": "worse", "worse": "better", "cannot tell": "cannot tell"}


@given(pairs)
def test_exchanging_the_two_exchanges_the_verdict(given_pairs):
    values, baseline = [one for one, _ in given_pairs], [one for _, one in given_pairs]
    there = paired_difference(values, baseline, "higher")
    back = paired_difference(baseline, values, "higher")
    assert back.verdict == OPPOSITE[there.verdict]
    assert math.isnan(back.mean) or back.mean == -there.mean


@given(pairs)
def test_a_diverged_training_is_the_limit_of_ever_worse_ones(given_pairs):
    values, baseline = [one for one, _ in given_pairs], [one for _, one in given_pairs]
    worse = ([-1e12 if math.isnan(one) else one for one in side] for side in (values, baseline))
    limit = paired_difference(*worse, "higher").verdict
    assert paired_difference(values, baseline, "higher").verdict == limit
