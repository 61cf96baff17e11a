"""`Adversary` in training loops of Accelerate: the page's program, on two processes and with accumulation."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch

from tests.adversary.programs import PROGRAMS, after, before, like_torchrun, run, weights
from tests.ranks import on_ranks

pytestmark = pytest.mark.skipif(not find_spec("accelerate"), reason="needs the extra `frameworks`: accelerate")
PRELUDE = "from accelerate import Accelerator"


def on_this_rank(program):
    like_torchrun()
    os.environ["ACCELERATE_USE_CPU"] = "true"
    trained = run(program, PRELUDE)
    networks = trained["model"], trained["D"]
    assert all(type(network).__name__ == "DistributedDataParallel" for network in networks)
    assert "generator_loss" in trained["adversary"].metrics
    return weights(*networks), trained["step"]


def test_two_processes_end_with_equal_weights():
    (first, steps), (second, _) = on_ranks(2, on_this_rank, after(PROGRAMS["Accelerate"]))
    assert steps == 4  # in each of 2 epochs 4 batches on each process, accumulated by 2
    assert all(map(torch.equal, first, second))


@pytest.fixture
def on_the_cpu(monkeypatch):
    from accelerate.state import AcceleratorState

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("on_the_cpu")
def test_accumulated_batches_equal_larger_ones():
    # one weight for all, because the balanced weight of a smaller batch is another one
    same = {"shuffle=True": "shuffle=False", "balanced_weight(loss, term, at=last.weight)": "0.1"}
    larger = {"gradient_accumulation_steps=2": "gradient_accumulation_steps=1", "batch_size=32": "batch_size=8"}
    program = after(PROGRAMS["Accelerate"])
    assert all(old in program for old in same | larger)
    whole = run(program, PRELUDE, changes=same | larger)
    accumulated = run(program, PRELUDE, changes=same)
    assert whole["step"] == accumulated["step"] == 8
    ours, theirs = (weights(names["model"], names["D"]) for names in (accumulated, whole))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("on_the_cpu")
def test_the_program_before_the_change_runs():
    assert run(before(PROGRAMS["Accelerate"]), PRELUDE)["step"] == 8
