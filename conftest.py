"""What every test and doctest shares."""

from pathlib import Path

import pytest

PROCESSES = 2


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
