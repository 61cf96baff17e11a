"""Every row of the table: gankit beside the tutorial's script, and beside other libraries."""

from __future__ import annotations

import gc

import pytest
import torch

from benchmarks.conftest import DEVICE
from benchmarks.row import Row
from benchmarks.rows import TooSlowError, measure, rows_for

# compilers and profilers warn of their own affairs; what falls back says so in the table
pytestmark = pytest.mark.filterwarnings("default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    fast = metafunc.config.getoption("--benchmark-fast", False)
    metafunc.parametrize("row", rows_for(DEVICE, fast=fast), ids=lambda row: row.name.replace(", ", "-"))


def test_speed(row: Row, device: torch.device, session) -> None:
    if session.minutes_so_far > session.minutes:
        leave_out(session, row, f"{session.minutes:g} minutes had passed")
    try:
        measured = measure(row, device, session.effort, session.report.peaks)
    except TooSlowError as error:
        leave_out(session, row, str(error))
    finally:
        torch.compiler.reset()
        gc.collect()
    session.report.add(measured)
    session.save()


def leave_out(session, row: Row, reason: str) -> None:
    session.report.left_out[row.name] = reason
    pytest.skip(reason)
