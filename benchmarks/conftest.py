"""`pytest benchmarks --benchmark` measures; without the option everything here is skipped."""

from __future__ import annotations

import platform

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark", action="store_true", help="measure, and print a table")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--benchmark"):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="measures time: add --benchmark"))


@pytest.fixture(scope="session")
def device() -> torch.device:
    """What is measured: the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Table:
    """Rows to print when the session is over."""

    def __init__(self) -> None:
        self.lines: list[str] = []


TABLE = Table()


@pytest.fixture(scope="session")
def table() -> Table:
    return TABLE


def hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return f"CPU ({platform.machine()}, {torch.get_num_threads()} threads); no GPU here"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TABLE.lines:
        terminalreporter.section("benchmarks")
        terminalreporter.write_line(f"{hardware()}; torch {torch.__version__}, Python {platform.python_version()}")
        for line in TABLE.lines:
            terminalreporter.write_line(line)
