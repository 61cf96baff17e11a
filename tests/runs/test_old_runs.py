"""Runs of earlier versions: weights and recipes load, and checkpoints of another format are refused in one sentence.

`tests/files/ring_format_1` was made by gankit 0.1.0, before checkpoints were stored as JSON and safetensors:

    gankit train ring --steps 20 --generator mlp:widths=[16] --discriminator mlp:widths=[16] --batch-size 32 \\
        --checkpoint-every-steps 10 --log-every-steps 10 --device cpu --seed 3 --out ring_format_1
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import gankit
from gankit.cli import main
from gankit.errors import CheckpointError
from gankit.runs import Run
from gankit.training import load_checkpoint, load_newest

OLD = Path(__file__).parents[1] / "files" / "ring_format_1"
REFUSED = (
    "must be a checkpoint of format 2, got format 1: "
    "continue it with the version of gankit that saved it, or train again"
)


def test_the_weights_of_an_old_run_load():
    generator = gankit.load(OLD)
    saved = load_file(OLD / "averaged_generator.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in generator.state_dict().items())
    assert generator(torch.randn(5, 258)).shape == (5, 2)


def test_the_recipe_of_an_old_run_builds_its_trainer():
    run = Run.open(OLD)
    assert (run.recipe.seed, run.recipe.preset.steps, run.recipe.checkpoint_every_steps) == (3, 20, 10)
    trainer = run.load_trainer()
    saved = load_file(OLD / "discriminator.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in trainer.discriminator.state_dict().items())
    assert run.read_metrics()[-1]["step"] == 20


def test_the_recipe_of_an_old_run_is_written_as_it_was():
    recipe = Run.open(OLD).recipe
    assert type(recipe).from_dict(recipe.to_dict()) == recipe


def test_an_old_checkpoint_is_refused_in_one_sentence():
    for load in (lambda: load_checkpoint(OLD / "checkpoints/step_0000020"), lambda: load_newest(OLD / "checkpoints")):
        with pytest.raises(CheckpointError) as caught:
            load()
        assert str(caught.value) == f"{OLD}/checkpoints/step_0000020 {REFUSED}"


def test_an_old_run_cannot_be_continued_and_is_left_as_it_is(capsys):
    shutil.copytree(OLD, "run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert main(["train", "--resume", "run", "--no-progress"]) == 2
    assert capsys.readouterr().err.splitlines() == [f"gankit: error: run/checkpoints/step_0000020 {REFUSED}"]
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
