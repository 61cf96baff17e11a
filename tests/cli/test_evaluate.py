"""`gankit evaluate`: one table of raw and averaged weights beside real samples, and a file in the run's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gankit.cli import main
from gankit.metrics import Evaluation

TINY = ["--generator", "mlp:widths=[8],block=linear_relu", "--discriminator", "mlp:widths=[8]", "--batch-size", "16"]
METRICS = ["captured_modes", "high_quality_share", "reverse_kl"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of some small runs."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = [*TINY, "--steps", "2", "--no-progress", "--checkpoint-every-steps", "0", "--device", "cpu"]
    for name, arguments in {
        "run": ["ring"],
        "replicas": ["ring", "--replicas", "2"],
        "raw": ["ring", "--averaging-decay", "none"],
        "moons": ["ring", "--data", "two_moons"],
    }.items():
        assert main(["train", *arguments, *tiny, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(runs):
    for one in runs.iterdir():
        shutil.copytree(one, one.name)


def columns(said: str) -> list[list[str]]:
    """The cells of the table's lines."""
    return [[cell.strip() for cell in line.split("  ") if cell] for line in said.splitlines() if "  " in line]


@pytest.mark.parametrize(
    ("run", "weights"), [("run", ["raw", "averaged"]), ("raw", ["raw"]), ("replicas", ["raw", "averaged"])]
)
def test_every_score_is_printed_beside_that_of_real_samples_and_written(run, weights, capsys):
    Path(run, "evaluation.json").unlink()
    assert main(["evaluate", run]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"{run}/evaluation.json"
    header, *rows = columns(said)
    assert header == ["metric", *weights, "real", "better", "samples"]
    evaluation = Evaluation.from_dict(json.loads(Path(run, "evaluation.json").read_text()))
    assert [row[0] for row in rows] == METRICS
    for row in rows:
        assert len(row) == len(header)
        assert float(row[-3]) == pytest.approx(evaluation.mean(row[0]).real, rel=1e-3)
        assert all(("±" in cell) == (run == "replicas") for cell in row[1:-3])


def test_training_prints_the_same_table_at_its_end(capsys):
    options = [*TINY, "--steps", "2", "--no-progress", "--device", "cpu", "--seed", "3", "--out", "new"]
    assert main(["train", "ring", *options]) == 0
    trained = columns(capsys.readouterr().out)
    assert main(["evaluate", "new"]) == 0
    evaluated = columns(capsys.readouterr().out)
    assert [row for row in trained if row[0] in METRICS] == evaluated[1:]
    assert evaluated[0] in trained


def test_what_cannot_be_evaluated_is_refused_in_one_sentence(capsys):
    assert main(["evaluate", "moons"]) == 2
    assert capsys.readouterr().err == (
        "gankit: error: evaluate is for runs on data that gankit can score, got 'two_moons'\n"
    )
