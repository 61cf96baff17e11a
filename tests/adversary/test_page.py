"""The programs of the page on adversarial terms: how much they add, and that the plain ones train."""

from __future__ import annotations

import re

import pytest
import torch

from tests.adversary.programs import BLOCKS, PROGRAMS, TEXT, after, before, run, weights
from tests.ranks import on_ranks


@pytest.mark.parametrize("name", ["A plain loop", "Several processes", "Accelerate", "Fabric", "Lightning"])
def test_a_program_adds_at_most_ten_lines(name):
    difference = PROGRAMS[name]
    lines = difference.splitlines()
    assert {line[0] for line in lines if line} <= {" ", "+", "-"}
    assert 5 < sum(line.startswith("+") for line in lines) <= 10
    for part in (before(difference), after(difference)):
        compile(part, name, "exec")
    assert "dversar" not in before(difference)


def test_no_line_is_wider_than_the_page():
    for kind, width in (("diff", 96), ("python", 88)):
        blocks = re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
        assert blocks
        assert not [line for block in blocks for line in block.splitlines() if len(line) > width]


def test_the_plain_program_is_its_difference_and_trains():
    program = after(PROGRAMS["A plain loop"])
    assert BLOCKS[1] == program
    trained = run(program)
    assert trained["step"] == 8
    assert {"generator_loss", "discriminator_loss"} <= trained["adversary"].metrics.keys()
    ordinary = run(before(PROGRAMS["A plain loop"]))
    torch.manual_seed(0)
    assert not torch.equal(weights(trained["model"])[0], weights(ordinary["model"])[0])
    assert all(parameter.isfinite().all() for parameter in weights(trained["model"], trained["adversary"]))


@pytest.mark.slow
def test_the_plain_program_trains_in_full():
    names: dict = {}
    exec(BLOCKS[0], names)
    exec(BLOCKS[1], names)
    assert names["step"] == 390
    x = names["digits"]
    y = names["model"](x)
    assert (y - x).square().mean() < 0.04  # a picture of zeros has 0.1

    def slope(pictures):
        return pictures.diff(dim=-1).abs().mean()

    assert 0.8 < slope(y) / slope(x) < 1.25  # about as sharp as the digits


def on_this_rank(program):
    trained = run(program, changes={'torch.distributed.init_process_group("gloo")\n': ""})
    return weights(trained["model"], trained["D"]), trained["step"]


def test_two_processes_end_with_equal_weights():
    (first, steps), (second, _) = on_ranks(2, on_this_rank, after(PROGRAMS["Several processes"]))
    assert steps == 8
    assert all(map(torch.equal, first, second))
