from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from gankit.data import DATASETS, TensorData
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    DataNotFoundError,
    GankitWarning,
    OutputError,
    OutputExistsError,
    ShapeError,
)
from gankit.presets import ring, vanilla_mnist
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
        *(f"checkpoints/step_0000006/{name}" for name in ("state.json", "state.safetensors", "manifest.json")),
    }
    assert [row["step"] for row in run.read_metrics()] == [2, 4, 6]
    with Image.open("run/samples.gif") as animation:
        assert animation.n_frames == 3
    assert json.loads(Path("run/environment.json").read_text())["torch"] == torch.__version__


def test_a_run_shorter_than_the_interval_of_its_log_has_metrics_and_curves():
    run = Run("run", Recipe(preset=TINY, device="cpu", log_every_steps=4, checkpoint_every_steps=3))
    run.train(progress=False)
    assert [row["step"] for row in run.read_metrics()] == [4, 6]
    short = Run("short", Recipe(preset=TINY.replace(steps=3), device="cpu", checkpoint_every_steps=3))
    short.train(progress=False)
    assert [row["step"] for row in short.read_metrics()] == [3]
    assert Path("short/curves.png").exists()
    Run.open("short").resume(progress=False)  # which has nothing to do
    assert [row["step"] for row in short.read_metrics()] == [3]


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


@pytest.mark.parametrize(
    ("form", "says"),
    [
        (None, "a recipe must be a mapping of names to values, got None"),
        (Recipe(preset=TINY).to_dict() | {"preset": []}, "a preset's JSON form must be a mapping"),
        (Recipe(preset=TINY).to_dict() | {"seed": None}, "seed must be an integer, got None"),
        (Recipe(preset=TINY).to_dict() | {"seed": 2**64}, "seed must be from"),
        (
            Recipe(preset=TINY).to_dict() | {"device": 3},
            "a recipe's device must be a name such as 'cpu', or None, got 3",
        ),
        (Recipe(preset=TINY).to_dict() | {"replicas": "2"}, "replicas must be an integer, got '2'"),
        (Recipe(preset=TINY).to_dict() | {"log_every_steps": 1.5}, "log_every_steps must be an integer, got 1.5"),
    ],
)
def test_a_damaged_recipe_is_refused_in_one_sentence(form, says):
    with pytest.raises((BadArgumentsError, BadValueError), match=says):
        Recipe.from_dict(form)


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


# --- samples that are points -----------------------------------------------------------------------------

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8], block="linear_relu"),
    discriminator=Spec("mlp", widths=[8]),
    batch_size=16,
    steps=6,
)


def train_points(preset=POINTS) -> Run:
    run = Run("run", Recipe(preset=preset, device="cpu", log_every_steps=2, sample_every_steps=4))
    run.train(progress=False)
    return run


def test_points_in_the_plane_are_drawn_and_their_modes_counted():
    run = train_points()
    assert sorted(path.name for path in Path("run/samples").iterdir()) == [f"step_{step:07d}.png" for step in (0, 4, 6)]
    with Image.open("run/samples.gif") as animation:
        assert animation.n_frames == 3
    (found,) = run.evaluations
    assert found.mean("captured_modes").real == 8
    assert json.loads(Path("run/evaluation.json").read_text()) == found.to_dict()


def test_pictures_of_points_change_nothing_in_training():
    drawn = train_points().trainer
    alone = POINTS(device="cpu").fit(POINTS.batches(device="cpu"), steps=6)
    for mine, theirs in zip(drawn.generator.parameters(), alone.generator.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("data", ["two_moons", "swiss_roll"])
def test_points_without_modes_are_drawn_and_not_counted(data):
    run = train_points(POINTS.replace(data=data))
    assert run.evaluations == []
    assert not Path("run/evaluation.json").exists()
    assert Path("run/samples.gif").exists()


def test_samples_that_cannot_be_drawn_do_not_stop_a_run():
    @DATASETS.register("walk")
    def walk():
        return TensorData(torch.randn(100, 5))

    try:
        run = train_points(POINTS.replace(data="walk", sample_shape=(5,)))
        with pytest.raises(ShapeError, match=r"must be pictures \(N, 1 or 3, H, W\), got \(64, 5\)"):
            run.draw_samples(run.trainer, "samples.png")
    finally:
        del DATASETS._factories["walk"]
    assert Path("run/generator.safetensors").exists()
    assert not Path("run/samples").exists()
    assert not Path("run/samples.gif").exists()


def test_a_resident_cloud_of_points_is_drawn_too():
    @DATASETS.register("cloud")
    def cloud():
        return TensorData(torch.randn(100, 2))

    try:
        run = train_points(POINTS.replace(data="cloud"))
        run.draw_samples(run.trainer, "samples.png", count=10)
    finally:
        del DATASETS._factories["cloud"]
    assert Path("run/samples.gif").exists()
    assert Path("samples.png").exists()


def test_without_matplotlib_points_are_not_drawn_and_the_rest_is_written(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with (
        pytest.warns(UserWarning, match=r"curves.png is missing: .*gankit\[plots\]"),
        pytest.warns(UserWarning, match=r"pictures of points are missing: .*gankit\[plots\]"),
    ):
        train_points()
    assert Path("run/generator.safetensors").exists()
    assert Path("run/evaluation.json").exists()
    assert not Path("run/samples").exists()


def test_drawing_samples_takes_none_from_the_stream_of_batches():
    batches = POINTS.batches(device="cpu")
    (before,) = (random.clone() for random in batches.state_dict()["random"])
    Run("run", Recipe(preset=POINTS, device="cpu"))._pictures(batches)
    assert torch.equal(batches.state_dict()["random"][0], before)


def test_weights_that_cannot_be_written_do_not_hide_why_training_ended(monkeypatch):
    def lost(*_, **__):
        raise DataNotFoundError("the data are gone")

    def full(*_, **__):
        raise OutputError("the disk is full")

    monkeypatch.setattr("gankit.training.trainer.AdversarialTrainer.step", lost)
    monkeypatch.setattr(Run, "save_weights", full)
    with (
        pytest.warns(GankitWarning, match="after an error, this failed as well: the disk is full"),
        pytest.raises(DataNotFoundError, match="the data are gone"),
    ):
        train("run")
