"""Runs on disk that are resumed, in Python and from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import gankit
from gankit.cli import main
from gankit.errors import (
    BadArgumentsError,
    BadValueError,
    CheckpointNotFoundError,
    CheckpointWarning,
    RecipeDiffersError,
)
from gankit.losses import LossSchedule
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import load_newest
from tests.resume.trainings import DIGITS, POINTS, assert_equal, lambda_at


def recipe(preset=POINTS, **options) -> Recipe:
    defaults = {"device": "cpu", "seed": 1, "log_every_steps": 2, "sample_every_steps": 4, "checkpoint_every_steps": 3}
    return Recipe(preset=preset.replace(steps=10), **defaults | options)


def stopped_at(folder: str, step: int, of: Recipe) -> Run:
    """Return a run that was stopped at a step."""
    run = Run(folder, of)
    build = run.build_trainer

    def build_stopping():
        trainer = build()
        trainer.callbacks.append(lambda_at(step, lambda trainer: trainer.stop()))
        return trainer

    run.build_trainer = build_stopping
    run.train(progress=False)
    return run


def content(folder: str) -> dict[str, bytes]:
    files = [path for path in Path(folder).rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("preset", [POINTS, DIGITS.replace(averaging_decay=0.9)])
def test_a_resumed_run_holds_what_an_undisturbed_one_holds(preset):
    Run("whole", recipe(preset)).train(progress=False)
    stopped_at("run", 4, recipe(preset))
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == ["step_0000003", "step_0000004"]
    Run.open("run").resume(progress=False)
    assert content("run") == content("whole")
    first, second = (load_newest(f"{folder}/checkpoints") for folder in ("whole", "run"))
    assert first.step == second.step == 10
    assert_equal(first.state, second.state)


def test_metrics_are_cut_back_to_the_checkpoint():
    Run("whole", recipe()).train(progress=False)
    stopped_at("run", 8, recipe())
    with Path("run/metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "discrim')  # a line that the machine did not finish
    shutil.rmtree("run/checkpoints/step_0000008")
    Run.open("run").resume(progress=False)
    assert Path("run/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()


def test_without_a_checkpoint_a_run_begins_with_its_recipe():
    Run("whole", recipe()).train(progress=False)
    stopped_at("run", 2, recipe())
    shutil.rmtree("run/checkpoints")
    Run.open("run").resume(progress=False)
    left = content("run")
    assert left.pop("samples/step_0000002.png")  # drawn when it was stopped
    assert left == content("whole")


def test_damaged_checkpoints_alone_are_no_start():
    stopped_at("run", 2, recipe())
    Path("run/checkpoints/step_0000002/state.json").write_bytes(b"")
    with pytest.raises(CheckpointNotFoundError, match="with none: .*state.json has 0 bytes, not"):
        Run.open("run").resume(progress=False)


def test_a_finished_run_goes_on_with_more_steps():
    Run("whole", recipe()).train(progress=False)
    more = recipe(POINTS)
    Run("run", Recipe(**vars(more) | {"preset": more.preset.replace(steps=6)})).train(progress=False)
    Run("run", more).resume(progress=False)
    assert content("run").pop("recipe.json") == content("whole").pop("recipe.json")
    assert_equal(load_newest("run/checkpoints").state, load_newest("whole/checkpoints").state)
    assert Run.open("run").recipe == more


def test_another_recipe_is_refused_and_named():
    stopped_at("run", 4, recipe())
    changed = recipe(POINTS.replace(loss="hinge", batch_size=8))
    with pytest.raises(RecipeDiffersError, match="got loss hinge instead of .*, batch_size 8 instead of 16; leave"):
        Run("run", changed).resume(progress=False)
    assert Run.open("run").recipe == recipe()


def test_fewer_steps_and_more_of_a_decay_are_other_recipes():
    decaying = recipe(POINTS.replace(learning_rate_decay=True))
    stopped_at("run", 4, decaying)
    for steps in (5, 20):
        other = Recipe(**vars(decaying) | {"preset": decaying.preset.replace(steps=steps)})
        with pytest.raises(RecipeDiffersError, match=f"got steps {steps} instead of 10"):
            Run("run", other).resume(progress=False)


OVERRIDES = {
    "loss": {"loss": "hinge"},
    "schedule": {"loss": LossSchedule({0: "hinge", 8: "minimax"})},
    "penalty": {"regularizers": ("lecam",)},
    "average": {"averaging_decay": 0.5},
    "batch size": {"batch_size": 8},
    "optimizer": {"generator_optimizer": Spec("sgd", lr=0.5)},
    "steps": {"steps": 7},
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_recipe_can_be_overridden(name):
    stopped_at("run", 5, recipe())
    changed = Recipe(**vars(recipe()) | {"preset": recipe().preset.replace(**OVERRIDES[name])})
    trainer = Run("run", changed).resume(progress=False, override=True)
    assert trainer.steps_done == changed.preset.steps
    assert Run.open("run").recipe == changed
    Run.open("run").resume(progress=False)  # and is now the run's own


def test_an_overridden_learning_rate_is_the_new_one():
    preset = POINTS.replace(generator_optimizer=Spec("adam", lr=0.1))
    stopped_at("run", 5, recipe(preset))
    changed = recipe(preset.replace(generator_optimizer=Spec("adam", lr=0.01)))
    trainer = Run("run", changed).resume(progress=False, override=True)
    assert trainer.generator_optimizer.param_groups[0]["lr"] == 0.01
    (first, *_) = trainer.generator_optimizer.state.values()
    assert first["step"] == 10


def test_other_networks_cannot_go_on():
    stopped_at("run", 5, recipe())
    changed = recipe(POINTS.replace(discriminator=Spec("mlp", widths=[9])))
    with pytest.raises(gankit.errors.CheckpointError, match=r"a trainer like this one: state must fit the discr"):
        Run("run", changed).resume(progress=False, override=True)
    assert Run.open("run").recipe == recipe()


def test_no_checkpoints_where_none_are_wanted():
    Run("run", recipe(checkpoint_every_steps=0)).train(progress=False)
    assert not Path("run/checkpoints").exists()


def test_a_recipe_from_before_there_were_checkpoints_is_read():
    form = recipe().to_dict()
    del form["checkpoint_every_steps"]
    assert Recipe.from_dict(form).checkpoint_every_steps == 100


def test_a_damaged_newest_checkpoint_is_skipped_with_a_word():
    Run("whole", recipe()).train(progress=False)
    stopped_at("run", 8, recipe())
    Path("run/checkpoints/step_0000008/manifest.json").write_text("{}")
    with pytest.warns(CheckpointWarning, match="skipped for step_0000006: .*step_0000008 is not a whole checkpoint"):
        Run.open("run").resume(progress=False)
    assert content("run") == content("whole")


# --- the command line ------------------------------------------------------------------------------------

COMMAND = ["train", "--resume", "run", "--no-progress"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([*COMMAND, "--loss", "minimax"], "recipe of 'run', got loss minimax instead of hinge; leave it out, or add"),
        ([*COMMAND, "--seed", "2", "--batch-size", "8"], "got batch_size 8 instead of 16, seed 2 instead of 1"),
        ([*COMMAND, "--steps", "4"], "got steps 4 instead of 10"),
        ([*COMMAND, "--out", "other"], "--out must be left out beside --resume run, got 'other'"),
        (["train", "grid", *COMMAND[1:]], "'run' is a run of the preset 'ring', got 'grid'"),
        (["train", "--resume", "nowhere"], "must hold recipe.json, got 'nowhere' without one"),
        (["train"], "train needs a PRESET, or --resume RUN, got neither"),
        (["train", "ring", "--override"], "--override goes with --resume RUN"),
    ],
)
def test_what_cannot_be_resumed_is_one_sentence(arguments, says, capsys):
    stopped_at("run", 4, recipe(POINTS.replace(loss="hinge")))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert says in error
    assert error.count("\n") == 1
    assert load_newest("run/checkpoints").step == 4


def test_the_command_goes_on_also_with_more_steps_and_with_what_it_was_told_before(capsys):
    stopped_at("run", 4, recipe(POINTS.replace(loss="hinge")))
    assert main(["train", "ring", *COMMAND[1:], "--loss", "hinge", "--steps", "12"]) == 0
    assert "12 of 12 steps done" in capsys.readouterr().out
    assert main([*COMMAND, "--loss", "minimax", "--steps", "14", "--override"]) == 0
    assert Run.open("run").recipe.preset.loss == Spec("minimax")


# --- gankit.load -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [None, 0.5])
def test_a_generator_is_rebuilt_from_a_finished_run(decay):
    trainer = Run("run", recipe(DIGITS.replace(averaging_decay=decay))).train(progress=False)
    generator = gankit.load("run")
    latents = torch.randn(3, 10)
    averaged = trainer.averaged_generator
    expected = (trainer.generator if averaged is None else averaged).eval()
    assert torch.equal(generator(latents), expected(latents))
    assert not any(weight.requires_grad for weight in generator.parameters())


def test_a_replica_is_rebuilt():
    trainer = Run("run", recipe(DIGITS, replicas=2)).train(progress=False)
    latents = torch.randn(3, 10)
    for index in range(2):
        expected = trainer.replica(index)[0].eval()
        assert torch.allclose(gankit.load("run", replica=index)(latents), expected(latents), atol=1e-6)
    with pytest.raises(BadValueError, match="must be one of the run's 2, got 2"):
        gankit.load("run", replica=2)


def test_a_recipe_that_asks_for_more_than_the_file_holds_takes_no_memory():
    Run("run", recipe(DIGITS)).train(progress=False)
    form = json.loads(Path("run/recipe.json").read_text())
    form["preset"]["generator"] = {"name": "mlp", "widths": [10**7, 10**7]}  # 400 TB
    Path("run/recipe.json").write_text(json.dumps(form))
    with pytest.raises(BadArgumentsError, match=r"generator.safetensors must hold the recipe's generator: .*shape"):
        gankit.load("run")
