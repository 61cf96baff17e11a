"""`Adversary` in training loops of Fabric: the page's program, on one process and on two."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from gankit.adversary import Adversary
from gankit.protocols import features_of
from tests.adversary.programs import PROGRAMS, after, before, like_torchrun, run, weights
from tests.ranks import on_ranks

# the import alone takes seconds
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("lightning"), reason="needs the extra `frameworks`: lightning"),
]
PRELUDE = """
from lightning.fabric import Fabric
fabric = Fabric(accelerator="cpu", devices={devices}, strategy="{strategy}")
fabric.launch()
"""
ALONE = PRELUDE.format(devices=1, strategy="auto")


class WithFeatures(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)

    def features(self, x, condition=None):
        return self.hidden(x).tanh()

    def forward(self, x):
        return self.last(self.features(x))


def on_this_rank(program):
    like_torchrun()
    trained = run(program, PRELUDE.format(devices=2, strategy="ddp"))
    D = trained["fabric"].setup(WithFeatures())
    assert features_of(D) is not None
    Adversary(D, regularizers=["feature_matching"]).generator_loss(fake=torch.rand(2, 4), real=torch.rand(2, 4))
    return weights(trained["model"], trained["D"]), trained["step"]


def test_two_processes_end_with_equal_weights():
    (first, steps), (second, _) = on_ranks(2, on_this_rank, after(PROGRAMS["Fabric"]))
    assert steps == 4  # Fabric divides the batches, not the size of a batch
    assert all(map(torch.equal, first, second))


def test_one_process_equals_the_plain_loop():
    same = {"shuffle=True": "shuffle=False", "fabric.seed_everything": "torch.manual_seed"}
    ours = run(after(PROGRAMS["Fabric"]), ALONE, changes=same)
    plain = run(after(PROGRAMS["A plain loop"]), changes=same)
    pairs = weights(ours["model"], ours["D"]), weights(plain["model"], plain["adversary"])
    assert all(map(torch.equal, *pairs))


def test_the_program_before_the_change_runs():
    assert run(before(PROGRAMS["Fabric"]), ALONE)["step"] == 8
