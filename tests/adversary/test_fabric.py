"""`Adversary` in training loops of Fabric: the page's program, on one process and on two."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from gankit.adversary import Adversary
from gankit.answers import Answer
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


@pytest.mark.parametrize(("precision", "penalties"), [("32-true", ["r1"]), ("bf16-mixed", [])])
def test_answers_with_heads_and_features_pass_the_wrapper(precision, penalties):
    from lightning.fabric import Fabric

    class Both(WithFeatures):
        def forward(self, x):
            hidden = super().features(x)
            return Answer(heads=(self.last(hidden).squeeze(1), hidden), features=[hidden])

        features = None  # only those of the answer

    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    D = Both()
    wrapped, optimizer = fabric.setup(D, torch.optim.Adam(D.parameters()))
    adversary = Adversary(wrapped, regularizers=["feature_matching", *penalties])
    x, y = torch.rand(2, 4), torch.rand(2, 4, requires_grad=True)
    fabric.backward(adversary.generator_loss(fake=y, real=x))
    assert y.grad.abs().sum() > 0
    assert D.hidden.weight.grad is None
    fabric.backward(adversary.discriminator_loss(fake=y, real=x))
    assert D.hidden.weight.grad.abs().sum() > 0
    optimizer.step()
    assert {"generator_loss/head1", "penalty/feature_matching"} <= adversary.metrics.keys()


def test_the_program_before_the_change_runs():
    assert run(before(PROGRAMS["Fabric"]), ALONE)["step"] == 8
