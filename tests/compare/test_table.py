"""The tables of a comparison: means, deviations, differences and verdicts, always beside real samples."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gankit.compare import Outcome
from gankit.compare.table import differences, tables
from gankit.metrics import Evaluation, Score

NAN = math.nan


def outcome(label: str, seed: int, modes: float, kl: float = 0.5, *, has_diverged: bool = False) -> Outcome:
    scores = {
        "captured_modes": Score(modes, real=8.0, better="higher", samples=2500),
        "reverse_kl": Score(kl, real=0.00071, better="lower", samples=2500),
    }
    figures = {"generator_loss": 0.25 * seed}
    return Outcome(label, seed, 1.0, has_diverged, figures, Evaluation(9, {"raw": [scores]}))


def without_scores(label: str, seed: int, **figures: float | None) -> Outcome:
    return Outcome(label, seed, 1.0, False, figures, None)


def test_scores_and_differences():
    done = [
        *(outcome("minimax", seed, modes) for seed, modes in enumerate([4, 6, 8])),
        *(outcome("hinge", seed, modes, kl) for seed, (modes, kl) in enumerate([(5, 0.25), (7, 0.5), (9, 0.75)])),
        outcome("wasserstein", 0, 3, NAN),
    ]
    deviation = statistics.stdev([0.25, 0.5, 0.75])
    margin = 4.302653 * deviation / math.sqrt(3)
    assert tables(["minimax", "hinge", "wasserstein", "softmax"], done).splitlines() == [
        "| entry | seeds | captured_modes ↑ | reverse_kl ↓ |",
        "|---|---|---|---|",
        "| real samples |  | 8 | 0.00071 |",
        "| `minimax` | 3 | 6.0 ± 2.0 | 0.5 ± 0 |",
        f"| `hinge` | 3 | 7.0 ± 2.0 | 0.50 ± {deviation:.2f} |",
        "| `wasserstein` | 1 | 3 | – |",
        "| `softmax` | 0 | – | – |",
        "",
        "↑ higher is better, ↓ lower is better. 2,500 samples each, and as many real ones in the first row. ± is the "
        "standard deviation over the seeds.",
        "",
        "| difference from `minimax` | seeds | captured_modes ↑ | reverse_kl ↓ |",
        "|---|---|---|---|",
        "| real samples |  | +2 | -0.4993 |",
        f"| `hinge` | 3 | better: +1 [+1, +1] | cannot tell on 3 seeds: +0.00 [-{margin:.2f}, +{margin:.2f}] |",
        "| `wasserstein` | 1 | cannot tell on 1 seed: -1 | cannot tell on 1 seed |",
        "| `softmax` | 0 | cannot tell on 0 seeds | cannot tell on 0 seeds |",
        "",
        "Mean difference [95 % interval], paired by seed. Of twenty verdicts on equal entries, about one is wrong.",
    ]


def test_differences_are_paired_by_seed_whatever_the_order():
    baseline = [outcome("a", seed, modes) for seed, modes in ((0, 1.0), (1, 5.0), (2, 9.0))]
    other = [outcome("b", seed, modes) for seed, modes in ((2, 10.0), (0, 1.9), (1, 6.1), (3, 99.0))]
    found = differences(["a", "b"], [*baseline, *other])["b"]["captured_modes"]
    assert (found.seeds, found.verdict) == (3, "better")
    assert found.mean == pytest.approx(1.0)


def test_a_diverged_training_is_counted_and_worse_than_any_number():
    done = [outcome("a", seed, 1.0 + seed / 10) for seed in range(5)]
    done += [outcome("b", seed, 8.0, has_diverged=seed < 4) for seed in range(5)]
    assert math.isnan(done[5].scores["captured_modes"].value)
    table = tables(["a", "b"], done)
    assert "| `b` | 5, 4 diverged | 8 (1 of 5) | 0.5 (1 of 5) |" in table
    assert "| `b` | 5 | worse | worse |" in table


def test_a_single_entry_has_no_differences():
    assert "difference" not in tables(["a"], [outcome("a", 0, 1.0)])


def test_without_scores_the_losses_are_shown_and_said_to_be_no_measure():
    done = [without_scores("a", 0, generator_loss=1.0, real_score=None), without_scores("a", 1, generator_loss=2.0)]
    assert tables(["a", "b"], done).splitlines() == [
        "| entry | seeds | generator_loss | real_score |",
        "|---|---|---|---|",
        "| `a` | 2 | 1.50 ± 0.71 | – |",
        "| `b` | 0 | – | – |",
        "",
        "No metric is known for these data. Losses do not say which samples are better.",
    ]


def test_before_the_first_training_there_are_rows_without_figures():
    assert tables(["a"], []).splitlines()[2:] == ["| `a` | 0 |"]


values = st.floats(allow_nan=True, allow_infinity=True)
outcomes = st.builds(outcome, st.sampled_from("abc"), st.integers(0, 4), values, values, has_diverged=st.booleans())


@given(st.lists(outcomes, min_size=1, max_size=8, unique_by=lambda one: (one.label, one.seed)))
def test_whatever_is_shown_stands_beside_real_samples(done):
    for table in tables(["a", "b", "c"], done).split("\n\n")[::2]:
        lines = table.splitlines()
        assert lines[2].startswith("| real samples |"), table
        assert len({line.count("|") for line in lines}) == 1, table
