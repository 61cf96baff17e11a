"""Measures a row in a process of its own, under a choice of how OpenMP's threads wait.

OpenMP reads `OMP_WAIT_POLICY` when it is loaded, so one process cannot measure under two policies. The parent starts
this module; a JSON object on the input says what to measure, and one on the output what was found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.floors import Peaks, Work
from benchmarks.row import Row
from benchmarks.rows import Effort, Measured, TooSlowError, measure
from benchmarks.timing import DEFAULT, PASSIVE

ROOT = Path(__file__).parents[1]


def policies_for(device: torch.device, *, fast: bool) -> list[str | None]:
    """Return the policies under which each row is measured; None is that of this process, and measures in it."""
    return [None] if fast or device.type == "cuda" else [DEFAULT, PASSIVE]


def environment(policy: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a process whose threads wait by a policy.

    Example:
        >>> environment("PASSIVE", {"HOME": "/root"}), environment("default", {"OMP_WAIT_POLICY": "PASSIVE"})
        ({'HOME': '/root', 'OMP_WAIT_POLICY': 'PASSIVE'}, {})
    """
    others = {name: value for name, value in variables.items() if name != "OMP_WAIT_POLICY"}
    return others if policy == DEFAULT else others | {"OMP_WAIT_POLICY": policy}


def measure_under(policy: str, row: Row, device: torch.device, effort: Effort, peaks: Peaks) -> Measured:
    """Measure one row in a new process; the arguments after the policy are those of `benchmarks.rows.measure`.

    Raises:
        TooSlowError: For a row that would take longer than the effort allows.
    """
    request = {"row": asdict(row), "device": str(device), "effort": asdict(effort)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.policies"],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        env=environment(policy, os.environ),
        cwd=ROOT,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    if "too_slow" in answer:
        raise TooSlowError(answer["too_slow"])
    for precision, rate in answer["flops"].items():
        peaks.flops[precision] = max(rate, peaks.flops.get(precision, 0.0))
    peaks.copied = max(answer["copied"], peaks.copied)
    return Measured(**answer["measured"] | {"work": Work(**answer["measured"]["work"])})


def answer_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what a request asks for; return the answer."""
    device = torch.device(request["device"])
    peaks = Peaks(device)
    try:
        measured = measure(Row(**request["row"]), device, Effort(**request["effort"]), peaks)
    except TooSlowError as error:
        return {"too_slow": str(error)}
    return {"measured": asdict(measured), "flops": peaks.flops, "copied": peaks.copied}


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr  # what is printed while measuring must not become the answer
    print(json.dumps(answer_to(json.load(sys.stdin))), file=answers)
