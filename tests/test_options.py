"""Each option is defined once: what repeats its name, type or default is compared with `Options`."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

import gankit
from gankit import AdversarialTrainer, Preset
from gankit.cli import build_parser
from gankit.presets import OptionChanges, Overrides, PresetChanges, ring
from gankit.runs import Recipe
from gankit.training import Options

OPTIONS = {field.name: field for field in dataclasses.fields(Options)}
PRESET = {field.name: field for field in dataclasses.fields(Preset)}
RECIPE = {field.name: field for field in dataclasses.fields(Recipe)}
TYPES = typing.get_type_hints(Options)

# arguments of the trainer that are no options: its parts, and what belongs to one run
PARTS = ["generator", "discriminator", "loss", "latent", "generator_optimizer", "discriminator_optimizer"]
PARTS += ["regularizers"]
OF_ONE_RUN = ["seed", "log_every_steps", "check_every_steps", "ranks", "callbacks"]
# a preset knows its number of steps, so that it only says whether learning rates decay over them
DECAY = ["learning_rate_decay_steps"]

# fields that no flag changes: what a preset is called, what its data must be, and what the launcher decides
WITHOUT_FLAG = {"name", "description", "sample_range", "preset", "ranks"}
# flags that are no fields: where to write, what to print, and how to begin; `root` becomes part of `data`
WITHOUT_FIELD = {"help", "preset", "out", "progress", "resume", "override", "root"}
# a flag that can be repeated has the name of one of the values
OTHER_NAME = {"regularizers": "regularizer"}


def arguments(function: Any) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(function).parameters.items())[1:])


def flags() -> dict[str, argparse.Action]:
    parser = build_parser()
    parser.parse_args(["train", "ring"])  # imports the command, and adds its flags
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {action.dest: action for action in commands.choices["train"]._actions}


# --- one definition --------------------------------------------------------------------------------------


def test_the_trainer_repeats_the_options():
    found, types = arguments(AdversarialTrainer.__init__), typing.get_type_hints(AdversarialTrainer.__init__)
    assert sorted(found) == sorted([*PARTS, *OPTIONS, *OF_ONE_RUN, *DECAY])
    for name, option in OPTIONS.items():
        assert types[name] == TYPES[name], name
        assert found[name].default == option.default, name
        assert found[name].kind is inspect.Parameter.KEYWORD_ONLY, name


def test_a_preset_inherits_the_options():
    assert OPTIONS.keys() < PRESET.keys()
    assert not OPTIONS.keys() & vars(Preset)["__annotations__"].keys()
    assert {name: (PRESET[name].type, PRESET[name].default) for name in OPTIONS} == {
        name: (option.type, option.default) for name, option in OPTIONS.items()
    }


def test_the_call_of_a_preset_has_the_trainers_defaults():
    own, trainers = arguments(Preset.__call__), arguments(AdversarialTrainer.__init__)
    assert sorted(own) == sorted([*OF_ONE_RUN, "device", "replicas", "overrides"])
    for name in OF_ONE_RUN:
        assert own[name] == trainers[name]


def test_the_arguments_that_change_a_preset_are_its_fields():
    assert typing.get_type_hints(OptionChanges) == TYPES
    assert typing.get_type_hints(PresetChanges).keys() == PRESET.keys()
    assert typing.get_type_hints(Overrides).keys() == PRESET.keys() - {
        "name",
        "description",
        "data",
        "batch_size",
        "steps",
    }


def test_a_recipe_holds_the_options_in_its_preset():
    form = Recipe(preset=ring.replace(averaging_decay=None)).to_dict()
    assert {name: form["preset"][name] for name in OPTIONS if name not in ("averaging_decay",)} == {
        name: option.default for name, option in OPTIONS.items() if name not in ("averaging_decay",)
    }
    assert not (OPTIONS.keys() & RECIPE.keys())


def test_every_field_of_preset_and_recipe_is_a_flag():
    fields = (PRESET.keys() | RECIPE.keys()) - WITHOUT_FLAG
    assert {OTHER_NAME.get(name, name) for name in fields} == flags().keys() - WITHOUT_FIELD


@pytest.mark.parametrize("name", OPTIONS)
def test_the_flag_of_an_option_reads_its_type(name):
    flag, kind = f"--{name.replace('_', '-')}", TYPES[name]

    def read(*words: str) -> Any:
        return getattr(build_parser().parse_args(["train", "ring", *words]), name, "not given")

    assert read() == "not given"
    if kind is bool:
        assert read(flag) is True
        assert read(f"--no-{flag[2:]}") is False
    elif typing.get_origin(kind) is typing.Literal:
        assert [read(flag, choice) for choice in typing.get_args(kind)] == [*typing.get_args(kind)]
    else:
        assert read(flag, "1") == 1
        assert isinstance(read(flag, "1"), kind)
        if isinstance(None, kind):
            assert read(flag, "none") is None
        else:
            with pytest.raises(SystemExit):
                read(flag, "none")


@pytest.mark.parametrize("name", [*OPTIONS, *sorted(RECIPE.keys() - WITHOUT_FLAG)])
def test_every_option_is_described(name):
    assert flags()[name].help.split(". ")[0]


# --- one more option -------------------------------------------------------------------------------------

ADDED = "    number_of_wishes: int | None = 3\n"
DESCRIBED = "        number_of_wishes: The number of wishes. None grants all.\n"
SCRIPT = """
import argparse, json
from gankit.cli import build_parser, train
from gankit.presets import Preset, ring
from gankit.runs import Recipe
from gankit.training import Options

options = build_parser().parse_args(["train", "ring", "--number-of-wishes", "none"])
changed = ring.replace(**train._preset_changes(ring, options))
recipe = Recipe(preset=changed)
assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
found = [one.to_dict()["number_of_wishes"] for one in (ring, changed, ring.replace(number_of_wishes=7))]
print(json.dumps(found))
try:
    ring.replace(number_of_wish=7)
except Exception as error:
    print(error)
try:
    build_parser().parse_args(["train", "--help"])
except SystemExit:
    pass
"""


def test_an_option_that_is_added_to_a_copy_reaches_preset_recipe_and_flags(tmp_path):
    package = tmp_path / "copy" / "gankit"
    shutil.copytree(Path(gankit.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "*.gz"))
    file = package / "training" / "step" / "options.py"
    text = file.read_text(encoding="utf-8")
    assert text.count("\n    def __post_init__") == text.count("\n    Raises:\n") == 1
    text = text.replace("\n    def __post_init__", f"{ADDED}\n    def __post_init__")
    file.write_text(text.replace("\n    Raises:\n", f"{DESCRIBED}\n    Raises:\n"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, cwd=package.parent
    )
    assert done.returncode == 0, done.stderr
    found, refused, *shown = done.stdout.splitlines()
    assert json.loads(found) == [3, None, 7]
    assert "has no field 'number_of_wish'. Did you mean 'number_of_wishes'?" in refused
    shown = " ".join(" ".join(shown).split())
    assert "--number-of-wishes N The number of wishes. None grants all." in shown
