"""What every test and doctest shares."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a test writes by a relative path disappear with it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let no test depend on which ran before it."""
    import torch

    torch.manual_seed(0)
