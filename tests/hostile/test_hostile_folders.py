"""The folder of a run from somebody else: nothing outside it is written, and no data are read to draw samples."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from gankit.cli import main
from gankit.errors import GankitWarning, OutputError
from gankit.presets import ring, vanilla_mnist
from gankit.runs import Recipe, Run

TINY = ring.replace(steps=4, batch_size=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    recipe = Recipe(preset=TINY, device="cpu", checkpoint_every_steps=2, sample_every_steps=2, log_every_steps=2)
    Run(folder, recipe).train(progress=False)
    return folder


@pytest.fixture
def run(trained):
    shutil.copytree(trained, "run")
    return Path("run")


def longer(folder: Path) -> Run:
    """Return the run with two more steps to make."""
    found = Run.open(folder)
    form = found.recipe.to_dict()
    form["preset"]["steps"] = 6
    return Run(folder, Recipe.from_dict(form))


def files_written(folder: Path) -> list[Path]:
    """Return every file outside `checkpoints` that a run has written."""
    return [path for path in folder.rglob("*") if path.is_file() and "checkpoints" not in path.parts]


def test_links_at_the_names_that_a_resume_writes_are_not_followed(run):
    precious = Path("precious").resolve()
    precious.write_text("mine")
    content = (run / "recipe.json").read_bytes()
    written = [path for path in files_written(run) if path.parent.name != "samples"]
    for path in [*written, run / "samples/step_0000006.png", run / ".unfinished-recipe.json"]:
        path.unlink(missing_ok=True)
        path.symlink_to(precious)
    (run / "recipe.json").unlink()
    (run / "recipe.json").write_bytes(content)
    longer(run).resume(progress=False, override=True)
    assert precious.read_text() == "mine"
    assert not (run / "metrics.jsonl").is_symlink()
    assert not (run / "generator.safetensors").is_symlink()


@pytest.mark.parametrize("name", ["checkpoints", "samples"])
def test_a_folder_that_leads_outside_is_refused(run, name):
    (run / name).rename("outside")
    (run / name).symlink_to(Path("outside").resolve())
    before = {path: path.stat().st_mtime_ns for path in Path("outside").rglob("*")}
    with pytest.raises(OutputError, match=f"run/{name} must be a folder inside the run's, got a link to "):
        longer(run).resume(progress=False, override=True)
    assert {path: path.stat().st_mtime_ns for path in Path("outside").rglob("*")} == before


NO_FILES = [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")]


@pytest.mark.parametrize("make", NO_FILES)
@pytest.mark.parametrize("name", ["metrics.jsonl", "curves.png"])
def test_what_is_no_file_is_an_error_that_names_it(run, name, make, capsys):
    (run / name).unlink()
    make(run / name)
    code = main(["train", "--resume", "run", "--steps", "6", "--override", "--no-progress"])
    assert code == 2
    error = capsys.readouterr().err
    assert error.startswith("gankit: error: ")
    assert f"run/{name}" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_picture_is_left_out_of_the_animation(run, make):
    (run / "samples/step_0000002.png").unlink()
    make(run / "samples/step_0000002.png")
    with pytest.warns(GankitWarning, match="samples.gif lacks a picture: .*step_0000002.png is not a file"):
        assert main(["train", "--resume", "run", "--steps", "6", "--override", "--no-progress"]) == 0


@pytest.mark.parametrize("name", ["recipe.json", "averaged_generator.safetensors", "discriminator.safetensors"])
def test_a_huge_file_is_an_error_at_once(run, name, capsys):
    with (run / name).open("r+b") as file:
        file.truncate(1 << 40)
    assert main(["sample", "run"]) == 2
    error = capsys.readouterr().err
    assert f"{name} must have at most" in error
    assert error.count("\n") == 1


def test_no_file_is_read_to_draw_samples(run, monkeypatch):
    form = json.loads((run / "recipe.json").read_text())
    form["preset"]["data"] = {"name": "image_folder", "root": str(Path("private").resolve())}
    (run / "recipe.json").write_text(json.dumps(form))
    monkeypatch.setattr("gankit.presets.preset.Preset.batches", None)
    assert main(["sample", "run", "--out", "samples.png"]) == 0
    assert Path("samples.png").exists()


def test_pictures_are_sampled_without_their_data(monkeypatch):
    Run("run", Recipe(preset=vanilla_mnist.replace(steps=1, batch_size=8), device="cpu")).train(progress=False)
    monkeypatch.setattr("gankit.presets.preset.Preset.batches", None)
    assert main(["sample", "run", "--out", "samples.png"]) == 0


def test_what_a_file_says_reaches_the_terminal_without_escape_sequences(run, capsys):
    form = json.loads((run / "recipe.json").read_text())
    for where, value in ((form["preset"], "loss"), (form, "device")):
        changed = json.loads(json.dumps(form))
        (changed["preset"] if where is form["preset"] else changed)[value] = "\x1b[2J\x9b"
        (run / "recipe.json").write_text(json.dumps(changed))
        assert main(["sample", "run"]) == 2
        error = capsys.readouterr().err
        assert "\\x1b[2J" in error
        assert error.rstrip("\n").isprintable()
