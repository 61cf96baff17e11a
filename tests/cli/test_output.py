"""What the command prints reaches any terminal, and nobody who stops reading ends the command."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from gankit.cli import main
from gankit.cli.output import safe_output
from gankit.errors import DataWarning

COMMAND = [sys.executable, "-m", "gankit"]


def ring(folder: str) -> list[str]:
    """Return the command of a training of a few steps."""
    return ["train", "ring", "--steps", "3", "--batch-size", "8", "--device", "cpu", "--out", folder]


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_characters_that_the_encoding_lacks_are_written_as_escape_sequences(name, monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, name, screen)
    with safe_output():
        print("Ünï ± \udcff", file=getattr(sys, name))
    assert getattr(sys, name) is screen
    assert screen.buffer.getvalue() == b"\\xdcn\\xef \\xb1 \\udcff\n"


@pytest.mark.parametrize("replicas", [[], ["--replicas", "2"]])
def test_a_run_whose_folder_the_terminal_cannot_show_is_trained(replicas, monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", screen)
    assert main([*ring("Ünï"), *replicas, "--no-progress"]) == 0
    assert b"weights  \\xdcn\\xef/generator.safetensors\n" in screen.buffer.getvalue()
    assert Path("Ünï/generator.safetensors").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "ring", "--x\x1b[2J"],
        ["train", "\x1b[2J"],
        ["train", "ring", "--loss", "minimax:label_smoothing=\x1b[2J"],
        ["sample", "\x1b[2J"],
        ["show", "losses", "\x1b[2J"],
        ["sample", "\x9b2J\u202e"],
    ],
)
def test_no_argument_reaches_the_terminal_as_an_escape_sequence(arguments, capsys):
    with contextlib.suppress(SystemExit):
        assert main(arguments) == 2
    shown = capsys.readouterr()
    text = (shown.out + shown.err).replace("\n", "")
    assert text.isprintable()
    assert "\\x1b[2J" in text or "\\x9b2J\\u202e" in text


def test_an_escape_sequence_in_the_name_of_a_folder_is_written_out(capsys):
    assert main([*ring("a\x1b[2Jb"), "--no-progress"]) == 0
    out = capsys.readouterr().out
    assert "a\\x1b[2Jb" in out
    assert "\x1b" not in out
    assert Path("a\x1b[2Jb/generator.safetensors").exists()


@pytest.mark.parametrize("argument", ["list", "--help", "--version"])
def test_a_full_disk_behind_the_output_is_one_sentence(argument):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, argument], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "gankit: error: the standard output must be writable: No space left on device\n"


def test_a_closed_output_is_no_error():
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m gankit list >&- 2>&-"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_reader_that_leaves_ends_no_training(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        assert main(ring("run")) == 0
    assert Path("run/generator.safetensors").exists()


def test_an_error_of_the_system_is_one_line(monkeypatch, capsys):
    def refuse(options):
        raise PermissionError(13, "Permission denied", "runs/secret")

    monkeypatch.setattr("gankit.cli.list.run", refuse)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == "gankit: error: runs/secret: Permission denied\n"


def test_ctrl_c_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def interrupt(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("gankit.cli.entry.importlib.import_module", interrupt)
    assert main(["train", "ring"]) == 130
    assert capsys.readouterr().err == "gankit: interrupted\n"


def test_warnings_of_gankit_are_one_line_and_others_stay_as_they_are(monkeypatch):
    def warn_twice(options):
        shown.append(warnings.formatwarning("two files are left out", DataWarning, "entry.py", 8))
        shown.append(warnings.formatwarning("old", DeprecationWarning, "entry.py", 8, "main()"))
        return 0

    shown = []
    as_before = warnings.formatwarning
    monkeypatch.setattr("gankit.cli.list.run", warn_twice)
    assert main(["list"]) == 0
    assert shown == ["gankit: warning: two files are left out\n", "entry.py:8: DeprecationWarning: old\n  main()\n"]
    assert warnings.formatwarning is as_before
