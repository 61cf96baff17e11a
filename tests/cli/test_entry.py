"""The command as a whole: its exit codes, and its errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import gankit.cli
from gankit.cli import main
from gankit.cli.entry import COMMANDS


def test_the_module_is_a_command():
    done = subprocess.run([sys.executable, "-m", "gankit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("gankit 0.")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_help_and_has_help_of_its_own(command, capsys):
    for arguments in (["--help"], [command, "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[command] in shown
    assert f"usage: gankit {command} [-h]" in shown


def test_the_commands_are_the_files_that_add_arguments():
    files = Path(gankit.cli.__file__).parent.glob("*.py")
    found = {file.stem for file in files if "def add_arguments(" in file.read_text(encoding="utf-8")}
    assert found == COMMANDS.keys()


def test_without_a_command_it_says_what_is_missing(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "the following arguments are required: COMMAND" in capsys.readouterr().err


def test_an_unknown_option_is_one_line_whatever_it_holds(capsys):
    with pytest.raises(SystemExit):
        main(["train", "ring", "--name", "a\nb"])
    assert capsys.readouterr().err.splitlines()[-1] == "gankit: error: unrecognized arguments: --name a b"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "vanila_mnist"], "unknown preset 'vanila_mnist'. Did you mean 'vanilla_mnist'?"),
        (["train", "vanilla_mnist", "--loss", "minmax"], "unknown loss 'minmax'. Did you mean 'minimax'?"),
        (
            ["train", "vanilla_mnist", "--generator", "mlp:hiden_dim=3"],
            "got an unexpected argument 'hiden_dim'. Did you mean 'hidden_dim'?",
        ),
        (["train", "vanilla_mnist", "--device", "gpu"], "device must be one torch knows"),
        (["train", "vanilla_mnist", "--steps", "0"], "steps must be above 0, got 0"),
        (["train", "vanilla_mnist", "--root", "x"], "--root is for a data set that has one, got it with 'mnist_5k'"),
        (["train", "vanilla_mnist", "--data", "image_folder", "--root", "nowhere"], "which does not exist"),
        (["train", "vanilla_mnist", "--loss", "minimax", "--loss", "non_saturating"], "needs the step at which each"),
        (["train", "vanilla_mnist", "--out", "file/run"], "the run's folder must be writable, got 'file/run'"),
        (["sample", "nowhere"], "must hold recipe.json, got 'nowhere' without one"),
        (["show", "losses", "minmax"], "Did you mean 'minimax'?"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_no_run(arguments, says, capsys):
    Path("file").write_text("")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert says in error
    assert error.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["file"]
