import json
import math

import pytest

from gankit.errors import BadArgumentsError, BadValueError
from gankit.metrics import Evaluation, Score

METRICS = ("distance", "share")


def scores(*values, real=0.25):
    """The scores of one model by name; of the second metric, higher is better."""
    return {
        name: Score(value, real=real, better=better, samples=2500)
        for name, value, better in zip(METRICS, values, ("lower", "higher"), strict=True)
    }


SINGLE = Evaluation(40, {"raw": [scores(3.0, 0.5)]})
AVERAGED = Evaluation(40, {"raw": [scores(3.0, 0.5)], "averaged": [scores(2.0, 0.75)]})
REPLICAS = Evaluation(40, {"raw": [scores(3.0, 0.5), scores(5.0, 0.5), scores(4.0, math.nan)]})
EVALUATIONS = {"single": SINGLE, "averaged": AVERAGED, "replicas": REPLICAS}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_every_value_that_is_shown_stands_beside_that_of_real_samples(name):
    evaluation = EVALUATIONS[name]
    header, *lines = [line.split("  ") for line in evaluation.table().splitlines()]
    assert [one.strip() for one in header if one] == ["metric", *evaluation.scores, "real", "better", "samples"]
    assert len(lines) == len(evaluation.metrics)
    for line in lines:
        assert [one.strip() for one in line if one][-3:-1][0] == "0.25"
    row = evaluation.row()
    values = [key for key in row if key.split("/")[0] in ("raw", "averaged") and key.count("/") == 1]
    assert len(values) == len(evaluation.scores) * len(METRICS)
    for value in values:
        assert row[f"{value}/real"] == 0.25
    for weights in evaluation.scores:
        for one in evaluation.to_dict()[weights]:
            assert [score["real"] for score in one.values()] == [0.25, 0.25]


def test_the_table_shows_both_weights():
    assert AVERAGED.table().splitlines() == [
        "metric    raw  averaged  real  better  samples",
        "distance  3    2         0.25   lower    2,500",
        "share     0.5  0.75      0.25  higher    2,500",
    ]


def test_replicas_are_shown_by_their_mean_and_standard_deviation():
    assert REPLICAS.mean("distance").value == 4.0
    assert REPLICAS.spread("distance") == 1.0  # of 3, 5 and 4, with n - 1
    assert SINGLE.spread("distance") is None
    assert "4 ± 1 " in REPLICAS.table()
    assert REPLICAS.row()["raw/distance/sd"] == 1.0


def test_what_is_not_finite_is_a_dash_in_the_table_and_null_in_the_file():
    assert "– ± –" in REPLICAS.table()
    assert REPLICAS.row()["raw/share"] is None
    assert json.loads(json.dumps(REPLICAS.to_dict(), allow_nan=False))["raw"][2]["share"]["value"] is None


def test_the_weights_that_samples_come_from_are_those_of_a_mean():
    assert (SINGLE.chosen, AVERAGED.chosen) == ("raw", "averaged")
    assert AVERAGED.mean("distance").value == 2.0
    assert AVERAGED.mean("distance", "raw").value == 3.0


def test_a_metric_that_is_not_there_is_refused():
    with pytest.raises(BadValueError, match=r"metric must be one of distance, share, got 'distanc'\. Did you mean"):
        SINGLE.mean("distanc")


@pytest.mark.parametrize("name", ["single", "averaged"])
def test_an_evaluation_comes_back_from_json(name):
    evaluation = EVALUATIONS[name]
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"step": 3},
        {"step": "3", "raw": SINGLE.to_dict()["raw"]},
        {"step": 3, "raw": []},
        {"step": 3, "raw": [{}]},
        {"step": 3, "raw": [{"distance": 3.0}]},
        {"step": 3, "raw": SINGLE.to_dict()["raw"], "averaged": [{}]},
        [],
    ],
)
def test_what_is_no_evaluation_is_refused(form):
    with pytest.raises(BadArgumentsError, match="an evaluation must have a step, and scores"):
        Evaluation.from_dict(form)
