"""Every row of the table: gankit compared with the tutorial's script and with other libraries."""

from __future__ import annotations

import gc

import pytest
import torch

from benchmarks.conftest import DEVICE
from benchmarks.policies import measure_under, policies_for
from benchmarks.row import Row
from benchmarks.rows import TooSlowError, measure, rows_for

# compilers and profilers warn about their own matters; a row that falls back says so in the table
pytestmark = pytest.mark.filterwarnings("default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    fast = metafunc.config.getoption("--benchmark-fast", False)
    chosen = [(row, policy) for row in rows_for(DEVICE, fast=fast) for policy in policies_for(DEVICE, fast=fast)]
    metafunc.parametrize(
        ("row", "policy"), chosen, ids=[name(row, policy).replace(", ", "-") for row, policy in chosen]
    )


def name(row: Row, policy: str | None) -> str:
    return row.name if policy is None else f"{row.name}, {policy}"


def test_speed(row: Row, policy: str | None, device: torch.device, session) -> None:
    if session.minutes_so_far > session.minutes:
        leave_out(session, name(row, policy), f"{session.minutes:g} minutes had passed")
    try:
        if policy is None:
            measured = measure(row, device, session.effort, session.report.peaks)
        else:
            measured = measure_under(policy, row, device, session.effort, session.report.peaks)
    except TooSlowError as error:
        leave_out(session, name(row, policy), str(error))
    finally:
        torch.compiler.reset()
        gc.collect()
    session.report.add(measured)
    session.save()


def leave_out(session, what: str, reason: str) -> None:
    session.report.left_out[what] = reason
    pytest.skip(reason)
