"""A run on folders of pictures keeps the names of its classes, and is not resumed with others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gankit import cli
from gankit.errors import DataError, RecipeDiffersError
from gankit.presets import vanilla_mnist
from gankit.runs import Recipe, Run
from gankit.runs.class_names import with_class_names
from gankit.spec import Spec
from tests.data.making_pictures import save

PICTURES = Spec("image_folder", root="pictures", size=4)
TINY = vanilla_mnist.replace(
    data=PICTURES,
    sample_shape=(1, 4, 4),
    num_classes=2,
    generator=Spec("mlp", widths=[2]),
    discriminator=Spec("mlp", widths=[2]),
    batch_size=2,
    steps=2,
)


def recipe(**changes):
    return Recipe(preset=TINY.replace(**changes), device="cpu", sample_every_steps=10)


def make(*names):
    for name in names:
        save(f"pictures/{name}/a.png", 100, size=(4, 4))
        save(f"pictures/{name}/b.png", 50, size=(4, 4))


def classes_of(data):
    return Spec.of(data).arguments.get("classes")


def test_the_classes_are_written_into_the_recipe_in_the_order_of_their_labels():
    make("10", "9")
    run = Run("run", recipe())
    run.train(progress=False)
    assert classes_of(run.recipe.preset.data) == ("9", "10")
    assert json.loads(Path("run/recipe.json").read_text())["preset"]["data"]["classes"] == ["9", "10"]
    assert Run.open("run").resume(progress=False).steps_done == 2


def test_a_folder_that_was_added_is_noticed_when_the_run_is_resumed():
    make("cats", "dogs")
    Run("run", recipe()).train(progress=False)
    make("bats")
    with pytest.raises(DataError, match=r"must be 'cats', 'dogs', each once, got 'bats' added$"):
        Run.open("run").resume(progress=False)
    Path("pictures/bats").rename("bats")
    Path("pictures/dogs").rename("dogs")
    with pytest.raises(DataError, match=r"must be 'cats', 'dogs', each once, got 'dogs' missing or empty$"):
        Run.open("run").resume(progress=False)


def test_the_same_options_resume_the_run_as_well_as_none(capsys):
    make("cats", "dogs")
    flags = ["--data", "image_folder:size=4", "--root", "pictures", "--sample-shape", "1,4,4", "--num-classes", "2"]
    flags += ["--batch-size", "2", "--steps", "2", "--device", "cpu", "--no-progress"]
    assert cli.main(["train", "vanilla_mnist", *flags, "--out", "run"]) == 0
    assert cli.main(["train", "vanilla_mnist", *flags, "--resume", "run"]) == 0
    assert cli.main(["train", "--resume", "run", "--no-progress"]) == 0
    assert capsys.readouterr().err == ""


def test_processes_that_a_launcher_restarts_begin_without_the_names_and_resume():
    make("cats", "dogs")
    Run("run", recipe()).train(progress=False)
    again = Run("run", recipe())
    assert again.resume(progress=False).steps_done == 2
    assert classes_of(again.recipe.preset.data) == ("cats", "dogs")


def test_other_pictures_get_their_own_names():
    make("cats", "dogs")
    Run("run", recipe()).train(progress=False)
    Path("pictures").rename("moved")
    other = Spec("image_folder", root="moved", size=4)
    named = with_class_names(recipe(data=other), Path("run"))
    assert classes_of(named.preset.data) == ("cats", "dogs")
    assert Spec.of(named.preset.data).arguments["root"].endswith("moved")
    with pytest.raises(RecipeDiffersError, match="data"):
        Run("run", named).resume(progress=False)


@pytest.mark.parametrize(
    "changes",
    [{"num_classes": None}, {"data": "mnist_5k"}, {"data": Spec("image_folder", root="nowhere", classes=("a", "b"))}],
    ids=["no classes", "other data", "named already"],
)
def test_recipes_that_need_no_names_stay_as_they_are(changes):
    assert with_class_names(recipe(**changes), Path("run")) == recipe(**changes)
