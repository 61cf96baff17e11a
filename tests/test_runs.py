from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from gankit.errors import BadArgumentsError, DataNotFoundError, OutputError, OutputExistsError
from gankit.presets import vanilla_mnist
from gankit.runs import Recipe, Run
from gankit.spec import Spec

TINY = vanilla_mnist.replace(
    generator=Spec("mlp", widths=[8]),
    discriminator=Spec("mlp", widths=[8]),
    batch_size=16,
    steps=6,
    averaging_decay=0.5,
)


def train(folder, **options) -> Run:
    run = Run(folder, Recipe(preset=TINY, device="cpu", seed=1, log_every_steps=2, sample_every_steps=4, **options))
    run.train(progress=False)
    return run


def test_a_run_holds_what_the_page_says():
    run = train("run")
    found = {str(path.relative_to("run")) for path in Path("run").rglob("*") if path.is_file()}
    assert found == {
        "recipe.json",
        "environment.json",
        "metrics.jsonl",
        "curves.png",
        "samples.gif",
        "generator.safetensors",
        "averaged_generator.safetensors",
        "discriminator.safetensors",
        *(f"samples/step_{step:07d}.png" for step in (0, 4, 6)),
    }
    assert [row["step"] for row in run.read_metrics()] == [2, 4, 6]
    with Image.open("run/samples.gif") as animation:
        assert animation.n_frames == 3
    assert json.loads(Path("run/environment.json").read_text())["torch"] == torch.__version__


def test_a_run_is_opened_with_its_recipe_and_its_weights():
    run = train("run")
    again = Run.open("run")
    assert again.recipe == run.recipe
    assert torch.equal(again.load_trainer().sample(5, seed=3), run.trainer.sample(5, seed=3))


def test_nothing_on_the_disk_is_overwritten():
    Path("run").mkdir()
    Path("run/thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match="new or empty, got 'run' with files in it"):
        train("run")
    assert [path.name for path in Path("run").iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_reported():
    Path("file").write_text("")
    with pytest.raises(OutputError, match="must be writable, got 'file/run': Not a directory"):
        train("file/run")


def test_a_recipe_that_cannot_be_built_leaves_no_folder():
    with pytest.raises(DataNotFoundError):
        Run("run", Recipe(preset=TINY.replace(data=Spec("mnist", root="nowhere", download=False)))).train()
    assert not Path("run").exists()


def test_what_is_no_run_is_refused():
    with pytest.raises(DataNotFoundError, match="hold recipe.json, got 'nowhere' without one"):
        Run.open("nowhere")
    Path("recipe.json").write_text("{")
    with pytest.raises(BadArgumentsError, match="recipe.json must be JSON"):
        Run.open(".")
    Path("recipe.json").write_text('{"format": 7}')
    with pytest.raises(BadArgumentsError, match=r"a recipe must have format 1 .* got \['format'\]"):
        Run.open(".")


def test_weights_that_are_missing_or_broken_are_reported():
    train("run")
    Path("run/generator.safetensors").write_bytes(b"broken")
    with pytest.raises(BadArgumentsError, match="generator.safetensors must hold the recipe's generator"):
        Run.open("run").load_trainer()
    Path("run/generator.safetensors").unlink()
    with pytest.raises(DataNotFoundError, match="must hold generator.safetensors"):
        Run.open("run").load_trainer()


def test_two_runs_of_one_recipe_are_equal():
    first, second = train("one"), train("two")
    assert first.read_metrics() == second.read_metrics()
    assert Path("one/generator.safetensors").read_bytes() == Path("two/generator.safetensors").read_bytes()


def test_without_matplotlib_the_rest_is_written(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.warns(UserWarning, match=r"curves.png is missing: .*gankit\[plots\]"):
        train("run")
    assert Path("run/generator.safetensors").exists()
