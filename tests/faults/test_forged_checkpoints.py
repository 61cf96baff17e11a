"""Checkpoints that an attacker has written, with correct hashes: the loader refuses them and runs nothing."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from gankit.errors import CheckpointError
from gankit.training import load_checkpoint, load_newest
from gankit.training.saving.manifest import STATE, TENSORS, manifest_bytes, write_file
from tests.faults.checkpoints import two_checkpoints


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


def forged(change_manifest=None, **contents: bytes) -> Path:
    """Change a checkpoint and make its hashes correct again; return its folder."""
    _, newest = two_checkpoints()
    form = json.loads((newest / "manifest.json").read_text())
    del form["sha256"]
    for kind, content in contents.items():
        file = {"json": STATE, "safetensors": TENSORS}[kind]
        (newest / file).unlink()
        form["files"][file] = write_file(newest / file, content)
    if change_manifest is not None:
        change_manifest(form)
    (newest / "manifest.json").write_bytes(manifest_bytes(form))
    return newest


@pytest.mark.parametrize("kind", ["json", "safetensors"])
def test_a_pickle_that_runs_a_command_runs_nothing(kind):
    newest = forged(**{kind: pickle.dumps(Harmful())})
    with pytest.raises(CheckpointError, match=r"is not a whole checkpoint: state\.\w+ cannot be read"):
        load_checkpoint(newest)
    assert not Path("harmed").exists()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", "a\\b", "", ".hidden", "x" * 200, "state.pt"]
)
def test_no_other_file_is_read(name):
    Path("checkpoints").mkdir()
    Path("checkpoints/secret").write_text("")
    newest = forged(lambda form: form["files"].update({name: {"bytes": 0, "sha256": ""}}))
    with pytest.raises(CheckpointError, match="manifest.json does not describe a checkpoint"):
        load_checkpoint(newest)


def test_a_link_is_not_followed_and_a_pipe_is_not_waited_for():
    older, newest = two_checkpoints()
    (newest / TENSORS).unlink()
    (newest / TENSORS).symlink_to((older / TENSORS).resolve())
    with pytest.raises(CheckpointError, match="state.safetensors is not a file"):
        load_checkpoint(newest)
    (newest / "manifest.json").unlink()
    os.mkfifo(newest / "manifest.json")
    with pytest.raises(CheckpointError, match="manifest.json is not a file"):
        load_checkpoint(newest)


def test_a_manifest_is_not_read_beyond_its_bound():
    _, newest = two_checkpoints()
    with (newest / "manifest.json").open("ab") as file:
        file.truncate(10**12)  # a hole, which takes no space on the disk
    with pytest.raises(CheckpointError, match="manifest.json has 1000000000000 bytes, more than"):
        load_checkpoint(newest)


@pytest.mark.parametrize(
    "change",
    [
        lambda form: form.update(step=-1),
        lambda form: form.update(step="4"),
        lambda form: form.update(step=5),
        lambda form: form.update(files=[]),
        lambda form: form.update(files={}),
        lambda form: form.update(versions=None),
        lambda form: form.update(recipe=3),
        lambda form: form["files"]["state.json"].pop("bytes"),
        lambda form: form["files"]["state.json"].update(bytes="many"),
        lambda form: form.pop("versions"),
    ],
)
def test_a_manifest_with_a_wrong_entry_is_refused(change):
    with pytest.raises(CheckpointError, match="step_0000004 is not a whole checkpoint"):
        load_checkpoint(forged(change))


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 100_000, '{"sha256": 3}', "\x00"])
def test_text_that_is_no_manifest_is_refused(text):
    _, newest = two_checkpoints()
    (newest / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="step_0000004 is not a whole checkpoint"):
        load_checkpoint(newest)


@pytest.mark.parametrize("number", [1, 3, None, "two"])
def test_a_checkpoint_of_another_format_is_refused_in_one_sentence(number):
    newest = forged(lambda form: form.update(format=number))
    sentence = (
        f"checkpoints/step_0000004 must be a checkpoint of format 2, got format {number!r}: continue it with the "
        "version of gankit that saved it, or train again"
    )
    for load in (lambda: load_checkpoint(newest), lambda: load_newest("checkpoints")):
        with pytest.raises(CheckpointError) as caught:
            load()
        assert str(caught.value) == sentence
