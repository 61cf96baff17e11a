"""`gankit sample`: pictures from a finished run, and never over a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gankit.cli import main

TINY = ["--generator", "mlp:widths=[8]", "--discriminator", "mlp:widths=[8]", "--batch-size", "16", "--device", "cpu"]


def train() -> None:
    main(["train", "vanilla_mnist", *TINY, "--steps", "4", "--no-progress", "--out", "run"])


def test_an_existing_picture_is_kept_unless_asked_for(capsys):
    train()
    Path("grid.png").write_text("mine")
    assert main(["sample", "run", "--out", "grid.png"]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert Path("grid.png").read_text() == "mine"
    assert main(["sample", "run", "--out", "grid.png", "--overwrite"]) == 0


@pytest.mark.parametrize("option", [["--seed", "9" * 30], ["--out", "x" * 300 + ".png"]], ids=["seed", "out"])
def test_a_sample_that_cannot_be_drawn_is_one_sentence(option, capsys):
    train()
    capsys.readouterr()
    assert main(["sample", "run", *option]) == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert error.count("\n") == 1
