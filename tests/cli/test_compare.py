"""`gankit compare`: one table from the command line, and a line after each training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gankit.cli import main

QUICK = ["--steps", "2", "--batch-size", "8", "--device", "cpu"]


def test_the_command_prints_the_table_and_a_line_after_each_training(capsys):
    losses = ["--loss", "minimax,hinge+none", "--loss", "f_divergence:divergence=kl", "--regularizer", "r1:weight=1"]
    assert main(["compare", "ring", *losses, *QUICK, "--seeds", "2", "--out", "out"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(Path("out/table.md").read_text())
    expected, *lines = said.err.splitlines()
    assert re.fullmatch(r"about \d+ \w+ for 6 trainings with their evaluations", expected)
    assert len(lines) == 6
    result = r"\[(\d/6, about \d+ \w+ left|6/6)\] .+, seed \d, \d+ s: captured_modes \d \(real 8, higher is better\)"
    assert all(re.fullmatch(result, one) for one in lines)
    content = json.loads(Path("out/results.json").read_text())
    assert content["entries"] == ["minimax", "hinge+none", "f_divergence:divergence=kl"]
    assert content["preset"]["regularizers"] == [{"name": "r1", "weight": 1}]
    assert content["preset"]["steps"] == 2
    assert content["seeds"] == [0, 1]


def entries_of(*arguments: str) -> list[str]:
    assert main(["compare", "ring", *arguments, *QUICK, "--seeds", "1", "--no-progress", "--out", "out"]) == 0
    return json.loads(Path("out/results.json").read_text())["entries"]


def test_variants_are_compared_with_the_preset_unchanged():
    variants = ["--variant", "generator=mlp:widths=[8,8],block=linear_relu", "--variant", "hinge+averaging_decay=0.5"]
    assert entries_of(*variants) == [
        "unchanged",
        "generator=mlp:widths=[8,8],block=linear_relu",
        "hinge+averaging_decay=0.5",
    ]


def test_variants_come_after_the_losses():
    assert entries_of("--loss", "minimax,hinge", "--variant", "steps=1") == ["minimax", "hinge", "steps=1"]


def test_the_unchanged_preset_stands_where_it_is_named():
    assert entries_of("--variant", "steps=1", "--variant", "unchanged") == ["steps=1", "unchanged"]


def test_flags_of_the_preset_are_for_all_rows():
    entries_of("--loss", "minimax", "--averaging-decay", "0.5", "--generator", "mlp:widths=[8],block=linear_relu")
    preset = json.loads(Path("out/results.json").read_text())["preset"]
    assert preset["averaging_decay"] == 0.5
    assert preset["generator"] == {"name": "mlp", "widths": [8], "block": "linear_relu"}


def test_the_default_folder_is_named_after_preset_and_time():
    assert main(["compare", "grid", "--loss", "minimax", *QUICK, "--seeds", "1", "--no-progress"]) == 0
    (folder,) = Path("runs/compare_grid").iterdir()
    assert (folder / "table.md").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing", "--loss", "minimax"], "unknown preset 'nothing'"),
        (["ring", "--loss", "minimaks"], "Did you mean 'minimax'?"),
        (["ring", "--loss", "minimax+r3"], "unknown regularizer 'r3'"),
        (["ring", "--loss", "minimax,minimax"], "must be different"),
        (["ring", "--loss", ","], "entries to compare must be one or more"),
        (["ring"], "compare needs --loss or --variant, got neither"),
        (["ring", "--variant", "generater=mlp"], "Did you mean 'generator'?"),
        (["ring", "--variant", "averaging_decay=2"], "averaging_decay must be in [0, 1), got 2"),
        (["ring", "--loss", "minimax", "--seeds", "0"], "--seeds must be above 0, got 0"),
        (["ring", "--loss", "minimax", "--steps", "0"], "steps must be above 0, got 0"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(arguments, says, capsys):
    assert main(["compare", *arguments, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert says in error
    assert error.count("\n") == 1
    assert not Path("out").exists()


def test_under_a_launcher_nothing_is_compared(monkeypatch, capsys):
    names = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert main(["compare", "ring", "--loss", "hinge"]) == 2
    assert "compare trains in one process, got it under a launcher" in capsys.readouterr().err
