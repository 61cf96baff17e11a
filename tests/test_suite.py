"""How the suite itself is run: in how many processes, and what it does about warnings."""

from __future__ import annotations

import os
import re
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
    (tmp_path / "gankit" / "runs").mkdir()
    for package in ("gankit", "gankit/runs"):
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "gankit" / "runs" / "evaluation.py").write_text("def digits_evaluator(preset, root): ...\n")
    (tmp_path / "torch.py").write_text("def manual_seed(seed): ...\n")
    return tmp_path


def run_pytest(folder: Path, *arguments: str, **variables: str) -> str:
    """Run pytest as a newcomer would; return its output, with the exit code in a last line."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "OMP_", "GANKIT_")) and name != "PYTHONPATH"
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


PARTS = {
    "gankit/__init__.py": "",
    "gankit/errors.py": "class GankitWarning(UserWarning): ...\n",
    "gankit/parts.py": """
import warnings
import other
from gankit.errors import GankitWarning

def raises_its_own(): warnings.warn("careful", GankitWarning, stacklevel=2)
def raises_any(): warnings.warn("careful")
def uses_what_is_deprecated(): other.deprecated()
def uses_what_changes(): other.changes()
def uses_what_warns(): other.warns()
def uses_what_warns_in_cpp(): other.warns_in_cpp()
""",
    "other.py": """
import warnings

def deprecated(): warnings.warn("use another", DeprecationWarning, stacklevel=2)
def changes(): warnings.warn("will be another", FutureWarning, stacklevel=2)
def warns(): warnings.warn("careful")
def warns_in_cpp(): warnings.warn("careful\\n(Triggered internally at /pytorch/x.cpp:1.)", stacklevel=2)
""",
    "tests/test_warnings.py": """
import gankit.parts, other, pytest, threading

names = [name for name in vars(gankit.parts) if name.startswith(("raises", "uses"))]

@pytest.mark.parametrize("name", names)
def test_gankit(name):
    getattr(gankit.parts, name)()

@pytest.mark.parametrize("name", ["deprecated", "changes", "warns", "warns_in_cpp"])
def test_other(name):
    getattr(other, name)()

def test_thread():
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
""",
}


@pytest.mark.parametrize(
    ("variables", "failures"),
    [
        ({}, {"test_gankit[raises_its_own]", "test_gankit[raises_any]", "test_thread"}),
        ({"GANKIT_TEST_WARNINGS": "error"}, None),
    ],
    ids=["at home", "in continuous integration"],
)
def test_warnings_of_gankit_are_errors_and_those_of_others_only_in_continuous_integration(project, variables, failures):
    for name, text in PARTS.items():
        (project / name).write_text(text)
    said = run_pytest(project, "tests", "-rA", **variables)
    outcomes = dict(re.findall(r"^(?:PASSED|FAILED) tests/test_warnings.py::(\S+)()", said, re.MULTILINE))
    failed = set(re.findall(r"^FAILED tests/test_warnings.py::(\S+)", said, re.MULTILINE))
    assert len(outcomes) == 11, said
    assert failed == (outcomes.keys() if failures is None else failures), said


def test_continuous_integration_is_strict():
    assert "\nexport GANKIT_TEST_WARNINGS=error\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
