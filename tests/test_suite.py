"""How the suite itself is run: in how many processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project with this one's configuration. A stand-in for torch saves the seconds of importing it."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    for folder in ("tests", "gankit"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests" / "conftest.py")
    (tmp_path / "torch.py").write_text("def manual_seed(seed): ...\n")
    return tmp_path


def run_pytest(folder: Path, *arguments: str, **variables: str) -> str:
    """Run pytest as a newcomer would; return its output, with the exit code in a last line."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "OMP_")) and name != "PYTHONPATH"
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments],
        cwd=folder,
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.stdout}{done.stderr}\nexit code {done.returncode}\n"


@pytest.mark.parametrize(
    ("arguments", "processes"),
    [
        ((), 2),
        (("-n", "0"), 1),
        (("tests",), 1),
        (("-s",), 1),
        (("--pdb",), 1),
        (("-p", "no:xdist"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_whole_suite_runs_in_two_processes_and_chosen_files_in_one(project, arguments, processes):
    (project / "tests" / "test_one.py").write_text("def test_one():\n    assert True\n")
    said = run_pytest(project, *arguments)
    assert said.endswith("exit code 0\n"), said
    assert (f"{processes} workers" in said) == (processes > 1)


def test_a_test_has_one_thread(project):
    lines = ["import os", "def test_one():", "    assert os.environ['OMP_NUM_THREADS'] == '1'"]
    (project / "tests" / "test_one.py").write_text("\n".join(lines))
    assert "1 passed" in run_pytest(project)
    assert "1 failed" in run_pytest(project, "tests", OMP_NUM_THREADS="2")  # whoever sets it decides


def test_benchmarks_are_measured_in_one_process():
    # no row starts within so short a time
    said = run_pytest(ROOT, "benchmarks", "--benchmark", "--benchmark-minutes", "1e-9", "-k", "test_speed", "-n", "2")
    assert said.endswith("exit code 0\n"), said
    assert "workers" not in said
