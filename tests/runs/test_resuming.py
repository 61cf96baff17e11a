"""What is checked before a run is continued: all of it, before anything in its folder changes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from gankit.cli import main
from gankit.errors import CheckpointError, CheckpointNotFoundError, GankitWarning, OutputError, RecipeDiffersError
from gankit.locks import FolderLock
from gankit.presets import ring, vanilla_mnist
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import load_newest
from gankit.training.saving.folder import find_checkpoints

POINTS = ring.replace(
    generator=Spec("mlp", widths=[8], block="linear_relu"),
    discriminator=Spec("mlp", widths=[8]),
    batch_size=16,
    steps=4,
    learning_rate_decay=False,
)


WITH_PICTURES = Run._pictures


@pytest.fixture(autouse=True)
def _without_pictures(monkeypatch):
    """Leave out what takes most of the time of so short a run."""
    monkeypatch.setattr(Run, "_pictures", lambda self, batches: None)
    monkeypatch.setattr(Run, "_draw_curves", lambda self: self.read_metrics())


def recipe(preset=POINTS, **options) -> Recipe:
    return Recipe(preset=preset, **{"device": "cpu", "log_every_steps": 2, "checkpoint_every_steps": 2} | options)


def content(folder="run") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def stopped(monkeypatch, step: int, **options) -> None:
    """Make a run that Ctrl-C has ended after a step."""
    build = Run.build_trainer

    class Stopping:
        every = 1

        def __call__(self, trainer):
            if trainer.steps_done == step:
                trainer.stop()

    def build_stopping(self, device=None):
        trainer = build(self, device)
        trainer.callbacks.append(Stopping())
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(Run, "build_trainer", build_stopping)
        Run("run", recipe(**options)).train(progress=False)


# --- runs without checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [None, 2])
def test_a_finished_run_without_checkpoints_is_not_trained_again(replicas):
    trained = Run("run", recipe(checkpoint_every_steps=0, replicas=replicas)).train(progress=False)
    before = content()
    with pytest.warns(GankitWarning, match="'run' has finished its 4 steps, so nothing is trained"):
        trainer = Run.open("run").resume(progress=False)
    assert content() == before
    assert trainer.steps_done == 4
    assert torch.equal(trainer.sample(3, seed=0), trained.sample(3, seed=0))


@pytest.mark.filterwarnings("ignore:.*has finished its 4 steps")
@pytest.mark.parametrize("replicas", [None, 2])
def test_the_command_says_that_a_run_is_finished_and_succeeds(replicas, capsys):
    Run("run", recipe(checkpoint_every_steps=0, replicas=replicas)).train(progress=False)
    before = content()
    assert main(["train", "--resume", "run", "--no-progress"]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 steps done" in said
    assert "replicas" not in said
    assert main(["train", "--resume", "run", "--steps", "9", "--no-progress"]) == 2
    says = (
        "must have a checkpoint, got 'run', which has finished its 4 steps, without one; train again in another folder"
    )
    assert says in capsys.readouterr().err
    assert content() == before


def test_a_finished_run_whose_last_step_was_only_drawn_is_finished(monkeypatch):
    Run("run", recipe(checkpoint_every_steps=0, log_every_steps=3)).train(progress=False)
    Path("run/samples").mkdir(exist_ok=True)
    Path("run/samples/step_0000004.png").write_bytes(b"")
    with pytest.warns(GankitWarning, match="so nothing is trained"):
        Run.open("run").resume(progress=False)


def test_an_interrupted_run_that_writes_no_checkpoints_is_not_begun_again_over_its_weights(monkeypatch):
    stopped(monkeypatch, 2, checkpoint_every_steps=0)
    before = content()
    with pytest.raises(CheckpointNotFoundError, match="got 'run', which was interrupted, without one; train again in"):
        Run.open("run").resume(progress=False)
    assert content() == before


def test_another_recipe_is_refused_without_checkpoints_too():
    Run("run", recipe(checkpoint_every_steps=0)).train(progress=False)
    before = content()
    with pytest.raises(RecipeDiffersError, match="must have the recipe of 'run', got batch_size 8 instead of 16"):
        Run("run", recipe(POINTS.replace(batch_size=8))).resume(progress=False)
    assert content() == before


# --- all or nothing --------------------------------------------------------------------------------------

REFUSED = {
    "other networks": ({"discriminator": Spec("mlp", widths=[9])}, CheckpointError, "like this one"),
    "fewer steps than are done": ({"steps": 1}, RecipeDiffersError, "steps must be 2 or more, which are done, got 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_recipe_that_is_refused_with_override_changes_nothing(name, monkeypatch):
    changes, error, says = REFUSED[name]
    stopped(monkeypatch, 2)
    before = content()
    with pytest.raises(error, match=says):
        Run("run", recipe(POINTS.replace(**changes))).resume(progress=False, override=True)
    assert content() == before


def test_checkpoints_that_another_process_writes_change_nothing(monkeypatch):
    stopped(monkeypatch, 2)
    with FolderLock(Path("run/checkpoints"), "the folder"):
        before = content()
        with pytest.raises(OutputError, match="'run/checkpoints', which this process writes into"):
            Run("run", recipe(POINTS.replace(steps=8))).resume(progress=False)
        assert content() == before


def test_more_steps_of_decaying_learning_rates_are_refused_with_the_reason(capsys):
    Run("run", recipe(POINTS.replace(learning_rate_decay=True))).train(progress=False)
    assert main(["train", "--resume", "run", "--steps", "8", "--no-progress"]) == 2
    says = "got steps 8 instead of 4, on which the learning rates depend with learning_rate_decay; leave it out, or add"
    assert says in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--steps", "8", "--no-progress", "--override"]) == 0
    assert load_newest("run/checkpoints").step == 8


# --- what somebody has changed in the folder -------------------------------------------------------------


@pytest.mark.parametrize("line", ["a note", "[1]", '{"loss": 1}', '{"step": "x"}', '{"step": 2, "loss": []}', '{"ste'])
def test_a_line_that_somebody_added_to_the_metrics_ends_nothing(line, monkeypatch):
    stopped(monkeypatch, 2)

    class Adding:
        every = 4

        def __call__(self, trainer):
            with Path("run/metrics.jsonl").open("a") as file:
                file.write(line + "\n")

    build = Run.build_trainer

    def build_adding(self, device=None):
        trainer = build(self, device)
        trainer.callbacks.append(Adding())
        return trainer

    monkeypatch.setattr(Run, "build_trainer", build_adding)
    with pytest.warns(GankitWarning, match="must be the metrics of a step, got others, which are left out"):
        Run.open("run").resume(progress=False)
    with pytest.warns(GankitWarning, match="which are left out"):
        assert [row["step"] for row in Run.open("run").read_metrics()] == [2, 4]


STRAY = {
    "an empty folder": lambda path: path.mkdir(parents=True),
    "a folder of notes": lambda path: (path.mkdir(parents=True), (path / "notes.txt").write_text("mine")),
    "a file": lambda path: (path.parent.mkdir(exist_ok=True), path.write_text("mine")),
    "a pipe": lambda path: (path.parent.mkdir(exist_ok=True), os.mkfifo(path)),
}


@pytest.mark.parametrize("name", STRAY)
@pytest.mark.parametrize("step", [0, 1, 9_000_000])
def test_what_only_has_the_name_of_a_checkpoint_stops_nothing_and_stays(name, step, monkeypatch):
    stopped(monkeypatch, 2)
    path = Path(f"run/checkpoints/step_{step:07d}")
    STRAY[name](path)
    assert Run.open("run").resume(progress=False).steps_done == 4
    assert path.exists()
    assert load_newest("run/checkpoints").step == 4
    shutil.rmtree("run/checkpoints/step_0000002")
    shutil.rmtree("run/checkpoints/step_0000004")
    assert find_checkpoints(Path("run/checkpoints")) == []


@pytest.mark.parametrize("damage", ["cut off", "empty", "a pipe"])
def test_a_damaged_picture_is_left_out_of_the_animation(damage, monkeypatch):
    monkeypatch.setattr(Run, "_pictures", WITH_PICTURES)
    digits = vanilla_mnist.replace(
        generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8]), batch_size=16, steps=2
    )
    Run("run", recipe(digits, sample_every_steps=2)).train(progress=False)
    picture = Path("run/samples/step_0000002.png")
    whole = picture.read_bytes()
    picture.unlink()
    if damage == "a pipe":
        os.mkfifo(picture)
    else:
        picture.write_bytes(whole[: len(whole) // 2] if damage == "cut off" else b"")
    with pytest.warns(GankitWarning, match=r"samples.gif lacks a picture: .*step_0000002.png': [^<]*$"):
        Run("run", recipe(digits.replace(steps=4), sample_every_steps=2)).resume(progress=False)
    with Image.open("run/samples.gif") as animation:
        assert animation.n_frames == 2


# --- where the data are ----------------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["pictures", "sub/../pictures", "./pictures"])
def test_a_relative_root_is_stored_as_it_was_meant(root, monkeypatch):
    for folder in ("pictures", "sub", "elsewhere"):
        Path(folder).mkdir()
    for number in range(4):
        Image.effect_noise((28, 28), 60).save(f"pictures/{number}.png")
    small = ["--generator", "mlp:widths=[8]", "--discriminator", "mlp:widths=[8]", "--batch-size", "4", "--steps", "2"]
    data = ["--data", "image_folder", "--root", root]
    assert main(["train", "vanilla_mnist", *small, *data, "--device", "cpu", "--no-progress", "--out", "run"]) == 0
    home = Path.cwd()
    stored = json.loads(Path("run/recipe.json").read_text())["preset"]["data"]["root"]
    assert Path(stored).is_absolute()
    assert Path(stored).samefile("pictures")
    monkeypatch.chdir("elsewhere")
    assert main(["train", "--resume", str(home / "run"), "--steps", "3", "--no-progress"]) == 0
    monkeypatch.chdir(home)
    assert main(["train", "--resume", "run", *data, "--steps", "4", "--no-progress"]) == 0  # as it was typed


def test_a_root_in_python_is_stored_alike_and_a_home_folder_stays_one():
    def root_of(root):
        preset = vanilla_mnist.replace(data=Spec("image_folder", root=root))
        form = Recipe(preset=preset).to_dict()
        assert Recipe.from_dict(form) == Recipe(preset=preset)
        return form["preset"]["data"]["root"]

    assert root_of("pictures") == str(Path("pictures").absolute())
    assert root_of("~/pictures") == "~/pictures"
    assert root_of(os.sep + "pictures") == os.sep + "pictures"


def test_a_tilde_in_front_of_the_folder_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    small = ["--generator", "mlp:widths=[8],block=linear_relu", "--discriminator", "mlp:widths=[8]", "--device", "cpu"]
    assert main(["train", "ring", *small, "--steps", "2", "--no-progress", "--out", "~/run"]) == 0
    assert Path("run/recipe.json").exists()
    shutil.rmtree("run/samples", ignore_errors=True)
    assert main(["train", "--resume", "~/run", "--no-progress"]) == 0
    assert not Path("~").exists()
