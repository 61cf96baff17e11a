"""What every test and doctest shares."""

import os

# OpenMP's threads spin while they wait, which stalls everything where other programs use the cores too
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a test writes by a relative path disappear with it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let no test depend on which ran before it."""
    torch.manual_seed(0)
