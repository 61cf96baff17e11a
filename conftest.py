"""What every test and doctest shares."""

import os
from pathlib import Path

import pytest

PROCESSES = 2

# what a warning does outside continuous integration; of the filters that match a warning, the last one decides
WARNING_FILTERS = (
    # a new version of another package may warn of what will change
    "default",
    # whatever a line of gankit warns of
    r"error:::gankit(\.|$)",
    # but not what is deprecated in another package: Python attributes such a warning to the line that uses it
    "default::DeprecationWarning",
    "default::FutureWarning",
    "default:(?s).*Triggered internally at",  # torch's own words where its C++ code warns
    # gankit attributes its warnings to the user's line, so only their class tells them apart
    "error::gankit.errors.GankitWarning",
    # exceptions that nobody could catch, such as those in a thread
    "error::pytest.PytestUnraisableExceptionWarning",
    "error::pytest.PytestUnhandledThreadExceptionWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    """Make warnings that gankit raises errors, and, if `GANKIT_TEST_WARNINGS` is `error`, all others too."""
    strict = os.environ.get("GANKIT_TEST_WARNINGS") == "error"
    for line in ("error",) if strict else WARNING_FILTERS:
        config.addinivalue_line("filterwarnings", line)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in two processes.

    A run of chosen files stays in one process, because a second one needs seconds to import torch. So does a run that a
    debugger or `-s` connects to the terminal. `-n` decides otherwise. The option is set here and not in `addopts`,
    where it would be an error without pytest-xdist.
    """
    if (
        config.pluginmanager.hasplugin("xdist")
        and not hasattr(config, "workerinput")
        and config.option.numprocesses is None
        and config.option.dist == "no"
        and config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and not (config.option.usepdb or config.option.trace or config.option.capture == "no")
    ):
        config.option.numprocesses = PROCESSES
        config.option.dist = "worksteal"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what a test writes by a relative path disappear with it."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Let no test depend on which ran before it."""
    import torch

    torch.manual_seed(0)
