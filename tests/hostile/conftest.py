"""A finished run to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gankit.runs import Recipe, Run
from tests.hostile.bounds import POINTS


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run with its weights."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    Run(folder, Recipe(preset=POINTS.replace(steps=2), device="cpu")).train(progress=False)
    return folder


@pytest.fixture
def run(finished):
    """A copy of it to write into."""
    shutil.copytree(finished, "run")
    return Path("run")
