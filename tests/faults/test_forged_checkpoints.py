"""Checkpoints that an attacker has written, with correct hashes: the loader refuses them and runs nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from gankit.errors import CheckpointError
from gankit.training import _manifest, load_checkpoint
from tests.faults.checkpoints import two_checkpoints


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


def forged(change_manifest=None, state=None) -> Path:
    """Change a checkpoint and make its hashes correct again; return its folder."""
    _, newest = two_checkpoints()
    form = json.loads((newest / "manifest.json").read_text())
    del form["sha256"]
    if state is not None:
        (newest / "state.pt").unlink()
        form["files"]["state.pt"] = _manifest.write_file(newest / "state.pt", state)
    if change_manifest is not None:
        change_manifest(form)
    (newest / "manifest.json").write_bytes(_manifest.manifest_bytes(form))
    return newest


def test_a_pickle_that_runs_a_command_runs_nothing():
    newest = forged(
        state=lambda file: torch.save({"trainer": Harmful(), "data": None, "callbacks": [], "other_ranks": []}, file)
    )
    with pytest.raises(CheckpointError, match="does not load without running code from it"):
        load_checkpoint(newest)
    assert not Path("harmed").exists()


def test_a_plain_pickle_runs_nothing():
    newest = forged(state=lambda file: file.write(pickle.dumps(Harmful())))
    with pytest.raises(CheckpointError, match="does not load without running code from it"):
        load_checkpoint(newest)
    assert not Path("harmed").exists()


def test_a_compressed_archive_is_refused():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    newest = forged(state=lambda file: file.write(content.getvalue()))
    with pytest.raises(CheckpointError, match="state.pt is a compressed archive"):
        load_checkpoint(newest)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "a\\b", "", ".hidden", "x" * 200])
def test_a_file_name_that_leads_outside_the_folder_is_refused(name):
    Path("checkpoints").mkdir()
    Path("checkpoints/secret").write_text("")
    newest = forged(lambda form: form["files"].update({name: {"bytes": 0, "sha256": ""}}))
    with pytest.raises(CheckpointError, match="which is no file in its folder"):
        load_checkpoint(newest)


def test_a_link_is_not_followed_and_a_pipe_is_not_waited_for():
    older, newest = two_checkpoints()
    (newest / "state.pt").unlink()
    (newest / "state.pt").symlink_to((older / "state.pt").resolve())
    with pytest.raises(CheckpointError, match="state.pt is not a file"):
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
        lambda form: form.update(format=9),
        lambda form: form.update(step=-1),
        lambda form: form.update(step="4"),
        lambda form: form.update(step=5),
        lambda form: form.update(files=[]),
        lambda form: form.update(files={}),
        lambda form: form.update(versions=None),
        lambda form: form.update(recipe=3),
        lambda form: form["files"]["state.pt"].pop("bytes"),
        lambda form: form["files"]["state.pt"].update(bytes="many"),
        lambda form: form.pop("versions"),
    ],
)
def test_a_manifest_with_a_wrong_entry_is_refused(change):
    with pytest.raises(CheckpointError, match="step_0000004 is no whole checkpoint"):
        load_checkpoint(forged(change))


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "[" * 100_000, '{"sha256": 3}', "\x00"])
def test_text_that_is_no_manifest_is_refused(text):
    _, newest = two_checkpoints()
    (newest / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="step_0000004 is no whole checkpoint"):
        load_checkpoint(newest)
