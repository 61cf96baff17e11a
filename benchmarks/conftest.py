"""`pytest benchmarks --benchmark` measures; without the option, all benchmarks are skipped."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from benchmarks.floors import Peaks
from benchmarks.report import Report
from benchmarks.rows import NOT_ON_A_CPU, Effort

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks")
    group.addoption("--benchmark", action="store_true", help="measure, and write benchmarks/results")
    group.addoption("--benchmark-fast", action="store_true", help="measure only batch 128, in about two minutes")
    group.addoption(
        "--benchmark-minutes",
        type=float,
        default=None,
        help="start no row after this many minutes (default: 8; on a CPU 18; with --benchmark-fast 1.2)",
    )


@dataclass
class Session:
    """The state that the benchmarks of one session share."""

    report: Report
    effort: Effort
    minutes: float
    started: float

    @property
    def fast(self) -> bool:
        return self.report.fast

    def save(self) -> Path:
        """Write the results so far, so that a run that is stopped keeps them."""
        self.report.minutes = self.minutes_so_far
        return self.report.write()

    @property
    def minutes_so_far(self) -> float:
        return (time.perf_counter() - self.started) / 60


SESSION = pytest.StashKey[Session]()
WRITTEN = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Measure in one process even if `-n` asks for more, because two at once would slow each other down."""
    if _measures(config) and config.pluginmanager.hasplugin("xdist"):
        config.option.numprocesses = 0


def _measures(config: pytest.Config) -> bool:
    return config.getoption("--benchmark", False) or config.getoption("--benchmark-fast", False)


def pytest_configure(config: pytest.Config) -> None:
    fast = config.getoption("--benchmark-fast", False)
    minutes = config.getoption("--benchmark-minutes", None) or (1.2 if fast else 18.0 if DEVICE.type == "cpu" else 8.0)
    report = Report(DEVICE, datetime.date.today().isoformat(), Peaks(DEVICE), fast=fast)
    config.stash[SESSION] = Session(report, Effort.on(DEVICE, fast=fast), minutes, time.perf_counter())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _measures(config):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="a benchmark: add --benchmark to run it"))


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    return request.config.stash[SESSION]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device to measure: the GPU if there is one, and the CPU otherwise."""
    return DEVICE


@pytest.fixture(scope="session", autouse=True)
def _compiles_anew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start with an empty cache of compiled code, so that `compile seconds` are those of a first run."""
    with pytest.MonkeyPatch.context() as patch:
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
            patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


def pytest_sessionfinish(session: pytest.Session) -> None:
    shared = session.config.stash[SESSION]
    report = shared.report
    if report.rows or report.overhead:
        if DEVICE.type == "cpu" and not report.fast:
            report.left_out |= NOT_ON_A_CPU
        if report.fast:
            report.left_out["other batch sizes, losses, penalties, presets, replicas"] = "the short run"
        session.config.stash[WRITTEN] = shared.save()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if WRITTEN in config.stash:
        path = config.stash[WRITTEN]
        terminalreporter.section("benchmarks")
        terminalreporter.write(path.read_text(encoding="utf-8"))
        terminalreporter.write_line(f"written to {path} and {path.with_suffix('.json').name}")
